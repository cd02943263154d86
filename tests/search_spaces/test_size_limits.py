"""Configurations of any size are judged before they take memory or time."""

import dataclasses
import json
import time
from typing import Any

import pytest
import torch

from foundation.errors import NasError, SpaceError, UnknownName
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.base import blocks
from search_spaces.blocks.mamba import Mamba
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.choices import one_of, repeat
from search_spaces.language.limits import count_values
from search_spaces.language.serialization import from_json, from_plain, to_json, to_plain
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.size_limits import MOST_PARAMETERS, check_size, closed_at_its_largest
from search_spaces.scenario import Scenario
from search_spaces.spaces import spaces

LAYER = Layer(sequence_mixer=Attention(num_heads=2, num_kv_heads=1, head_dim=8), channel_mixer=SwiGLU())
SPEC = Decoder(d_model=16, layers=(LAYER,))


@pytest.mark.parametrize(
    "depths", [[4 * 10**8], [1, 10**6], [10**39], [4097], [4000] * 100, [-1], [True], [1.5], "1", None]
)
def test_copies_are_counted_before_they_are_made(depths):
    plain = {**to_plain(SPEC), "layers": {"repeat": to_plain(LAYER), "depths": depths}}
    started = time.process_time()
    with pytest.raises(SpaceError):
        from_plain(plain)
    assert time.process_time() - started < 0.5


def test_copies_of_copies_are_counted():
    part: Any = 1
    for _ in range(8):
        part = {"repeat": part, "depths": [4096]}
    with pytest.raises(SpaceError, match=r"too large: [\d,]+ values"):
        from_plain(part)


def test_levels_are_counted():
    part: Any = 1
    for _ in range(200):
        part = [part]
    with pytest.raises(SpaceError, match="nested too deep: more than 64"):
        from_plain(part)
    with pytest.raises(SpaceError, match="nested deeper"):
        from_json("[" * 100_000)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"d_model": "64"}, "Decoder: d_model must be a whole number, got '64'"),
        ({"d_model": True}, "d_model must be a whole number, got True"),
        ({"d_model": 64.0}, "d_model must be a whole number, got 64.0"),
        ({"d_model": None}, "d_model must be a whole number, got None"),
        ({"d_model": [64]}, "d_model must be a whole number, got tuple"),
        ({"d_model": {"one_of": [64, "a"]}}, "d_model must be a whole number, got OneOf"),
        ({"d_model": 10**30}, "a number must be finite"),
        ({"d_model": float("nan")}, "a number must be finite"),
        ({"layers": 3}, "layers must be a sequence, each Layer, got 3"),
        ({"layers": {}}, "expected a 'type'"),
        ({"layers": [1]}, "layers must be a sequence"),
        ({"layers": [[]]}, "layers must be a sequence"),
        ({"norm": "RMSNorm"}, "norm must be Norm, got 'RMSNorm'"),
        ({"norm": {"type": "SwiGLU"}}, "norm must be Norm"),
        ({"norm": {"type": ["RMSNorm"]}}, "a type is the name of a block or a part"),
        ({"norm": {"type": "R" * 10**6}}, "unknown block or part"),
        ({"norm": {"one_of": 3}}, "expected a 'type'"),
        ({"norm": {"one_of": [], "name": 3}}, "the name of a shared choice must be text"),
        ({"norm": {"one_of": []}}, "at least one option"),
        ({"norm": {"one_of": list(range(1025))}}, "at most 1,024 options"),
        ({"norm": {"repeat": 1}}, "needs 'depths'"),
        ({"norm": {"one_of": [1], "else": 2}}, "got the keys"),
        ({"d" * 10**6: 1}, "has no field 'ddd"),
    ],
)
def test_wrong_values_are_refused_where_they_stand(change, says):
    started = time.process_time()
    with pytest.raises((SpaceError, UnknownName), match=says) as raised:
        from_plain({**to_plain(SPEC), **change})
    assert len(str(raised.value)) < 2000
    assert time.process_time() - started < 0.5


@pytest.mark.parametrize("text", ["", "{", "NaN", '{"type": 1e999}', '"\\ud800"'])
def test_what_is_no_json_is_no_configuration(text):
    with pytest.raises(SpaceError, match="not a configuration"):
        from_json(text)


@pytest.mark.parametrize("depth", [10**7, 4097])
def test_repeat_refuses_what_no_network_has(depth):
    with pytest.raises(SpaceError, match=f"depths must be at most 4,096, got {depth:,}"):
        repeat(LAYER, depths=(2, depth))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"d_model": 10**6}, r"too large: .* parameters"),
        ({"d_model": one_of(64, 10**6)}, r"too large: .* parameters"),
        ({"vocab": 10**12}, r"too large: .* parameters"),
        (
            {"layers": (Layer(sequence_mixer=one_of(Attention(), Mamba(state_dim=2**34))),)},
            r"too large: .* parameters",
        ),
        (
            {"layers": (Layer(sequence_mixer=Attention(num_heads="a")),)},
            "num_heads must be a whole number, got 'a'",
        ),
        ({"layers": (((LAYER,) * 4096,) * 4096,)}, "values, repeated parts counted"),
    ],
)
def test_a_size_is_known_before_anything_is_built(changes, says):
    started = time.process_time()
    with pytest.raises(SpaceError, match=says):
        check_size(dataclasses.replace(SPEC, **changes))
    assert time.process_time() - started < 0.5


@pytest.mark.parametrize("name", list(spaces))
def test_spaces_fit_and_their_largest_network_is_in_no_way_smaller(name):
    space = spaces[name]()
    root = getattr(space, "root", space)
    check_size(root)
    largest = closed_at_its_largest(root)
    params, _ = largest.sizes()
    assert params == largest.cost(Scenario()).params
    assert params < MOST_PARAMETERS
    assert count_values(root) == count_values(from_json(to_json(root)))
    assert json.loads(to_json(from_json(to_json(root)))) == to_plain(root)


BLOCKS = [(name, example) for name in blocks for example in blocks[name].examples()]


@pytest.mark.parametrize(("name", "block"), BLOCKS, ids=[f"{n}-{i}" for i, (n, _) in enumerate(BLOCKS)])
@pytest.mark.parametrize("number", [-(2**40), -1, 0, 1, 3, 2**20, 2**40])
def test_any_number_in_a_block_is_refused_or_cheap(name, block, number):
    """What passes the checks is priced from formulas, and is built at once where it has few parameters."""
    for field in dataclasses.fields(block):
        if not isinstance(getattr(block, field.name), (int, float)) or not field.init:
            continue
        changed = dataclasses.replace(block, **{field.name: number})
        place = "sequence_mixer" if block.mixes == "sequence" else "channel_mixer"
        layer = dataclasses.replace(LAYER, **{place: changed})
        started = time.process_time()
        try:
            spec = dataclasses.replace(SPEC, layers=(layer,))
            spec.check()
            check_size(spec)
        except NasError:
            continue
        finally:
            assert time.process_time() - started < 0.2, (field.name, number)
        if spec.sizes()[0] < 10**7:
            with torch.device("meta"):
                changed.build(SPEC.d_model)
            assert time.process_time() - started < 1, (field.name, number)
