"""Whole files made wrong: values of other types and sizes, and bytes that are flipped, cut or repeated."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

from hypothesis import strategies as st

EXTREME: st.SearchStrategy[Any] = st.sampled_from(
    [
        *(None, True, False, "", "x", "../x", "/", "\x00", "5", [], {}, [[]], {"a": {}}, [None], "x" * 5_000),
        *(0, -1, 1, 2, 7, 10**6, 10**12, 10**39, -(10**39), 2**31, 2**63),
        *(0.0, -0.0, 0.5, -1.5, 1e-320, 1e-12, 1e12, 1e30, 1e150, 1e299, 1e308, -1e308),
        *(float("nan"), float("inf"), -float("inf")),
        {"type": "Attention"},
        {"type": "RMSNorm", "epsilon": 0},
        {"one_of": [1, 2]},
        {"one_of": []},
        {"repeat": {"type": "SwiGLU"}, "depths": [10**6]},
    ]
)


@st.composite
def mutated(draw: st.DrawFn, plain: Any) -> bytes:
    """JSON of a plain value with up to three values replaced, removed, doubled or wrapped."""
    plain = deepcopy(plain)
    for _ in range(draw(st.integers(1, 3))):
        # fewer of the many samples: a place is chosen level by level
        inside, way = plain, []
        while isinstance(inside, (dict, list)) and inside and (not way or draw(st.integers(0, 3))):
            name = draw(st.sampled_from(sorted(inside) if isinstance(inside, dict) else range(len(inside))))
            way.append((inside, name))
            inside = inside[name]
        if not way:
            break
        holder, name = way[-1]
        match draw(st.sampled_from(["replace", "replace", "replace", "remove", "wrap", "rename", "grow"])):
            case "replace":
                holder[name] = deepcopy(draw(EXTREME))
            case "remove":
                del holder[name]
            case "wrap":
                holder[name] = [inside] if draw(st.booleans()) else {"value": inside}
            case "rename" if isinstance(holder, dict):
                holder[draw(st.text(max_size=5))] = holder.pop(name)
            case _:
                holder[name] = inside * 3 if isinstance(inside, (list, str)) else inside
    content = json.dumps(plain).encode()
    return content if draw(st.integers(0, 4)) else harmed(draw, content)


def harmed(draw: st.DrawFn, content: bytes) -> bytes:
    """Bytes of which some are flipped, cut off, or there twice."""
    if not content:
        return content
    place = draw(st.integers(0, len(content) - 1))
    match draw(st.sampled_from(["flip", "cut", "twice", "insert"])):
        case "flip":
            bit = 1 << draw(st.integers(0, 7))
            return content[:place] + bytes([content[place] ^ bit]) + content[place + 1 :]
        case "cut":
            return content[:place]
        case "twice":
            return content[:place] + content[max(0, place - 50) :]
        case _:
            return content[:place] + draw(st.binary(max_size=8)) + content[place:]


@st.composite
def harmed_bytes(draw: st.DrawFn, content: bytes) -> bytes:
    """The same as a strategy."""
    for _ in range(draw(st.integers(1, 3))):
        content = harmed(draw, content)
    return content
