"""Readers of models, architectures and corpora, given what was whole and is changed at random.

Whatever they are given, they read it or raise an error of ours, within a little memory. Every reader runs in
a process of its own with that limit.
"""

from __future__ import annotations

import contextlib
import copy
import json
import math
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from foundation.errors import NasError
from search_spaces.language.serialization import from_json, from_plain, to_plain
from search_spaces.network.model_files import CONFIG, HASH, WEIGHTS, load_model
from search_spaces.network.size_limits import check_size
from search_spaces.spaces import spaces
from tests.faults.models import SPEC, whole
from tests.forks import Fork
from tests.limits import limit_process

pytestmark = pytest.mark.slow  # minutes: `make faults` runs them

MEGABYTES = 200
SECONDS = 60
EXAMPLES = 60

NUMBERS = [
    0,
    -1,
    1,
    2,
    3,
    2**31,
    2**40,
    2**63,
    -(2**63),
    10**30,
    0.5,
    -0.0,
    1e-320,
    1e308,
    math.nan,
    math.inf,
]
WORDS = ["", "x", "Attention", "RMSNorm", "\x1b[2J", "../..", "\ud800"]
PARTS: list[Any] = [
    *([], {}, [[]]),
    *({"type": name} for name in ("Mamba", "SwiGLU", "Decoder", "Layer")),
    *({"repeat": part, "depths": [n]} for part in ({}, {"type": "Skip"}) for n in (3, 10**9)),
    {"one_of": [1, 2]},
]
VALUES = st.one_of(
    st.sampled_from([None, True, False, *NUMBERS, *WORDS, *PARTS]),
    *(st.integers(), st.floats(), st.text(max_size=5)),
)
"""What may stand where something else should."""


def places(plain: Any) -> list[tuple[Any, Any]]:
    """Every entry of nested lists and mappings: what holds it, and its key."""
    found: list[tuple[Any, Any]] = []
    entries = (
        plain.items() if isinstance(plain, dict) else enumerate(plain) if isinstance(plain, list) else ()
    )
    for key, entry in entries:
        found += [(plain, key), *places(entry)]
    return found


def changed(data: st.DataObject, plain: Any) -> Any:
    """A copy in which some entries are other ones, gone, or there more often."""
    plain = copy.deepcopy(plain)
    for _ in range(data.draw(st.integers(1, 3))):
        held = places(plain)
        if not held:
            break
        inside, key = held[data.draw(st.integers(0, len(held) - 1))]
        how = data.draw(st.sampled_from(["other", "other", "swap", "gone", "more"]))
        if how == "other":
            inside[key] = data.draw(VALUES)
        elif how == "swap":
            other, there = held[data.draw(st.integers(0, len(held) - 1))]
            inside[key] = copy.deepcopy(other[there])
        elif how == "gone":
            del inside[key]
        elif isinstance(inside, list):
            inside += [inside[key]] * data.draw(st.sampled_from([1, 3, 5000]))
        else:
            inside[data.draw(st.text(max_size=4))] = data.draw(VALUES)
    return plain


def damaged(data: st.DataObject, content: bytes, ahead: int) -> bytes:
    """Bytes of which some are others, gone or more, mostly among the first ones."""
    raw = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.one_of(st.integers(0, min(ahead, len(raw))), st.integers(0, len(raw))))
        length = data.draw(st.sampled_from([0, 1, 2, 100]))
        raw[at : at + length] = data.draw(
            st.one_of(st.binary(max_size=4), st.sampled_from([b"9", b"[", b'"', b"-"]))
        )
    return bytes(raw)


def reads_config(data: st.DataObject, folder: Path) -> None:
    plain = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(changed(data, plain)))
    load_model(folder)


def reads_config_text(data: st.DataObject, folder: Path) -> None:
    (folder / CONFIG).write_bytes(damaged(data, (folder / CONFIG).read_bytes(), 2000))
    load_model(folder)


def reads_weights(data: st.DataObject, folder: Path) -> None:
    plain = json.loads((folder / CONFIG).read_text())
    del plain[HASH]
    (folder / CONFIG).write_text(json.dumps(plain))
    (folder / WEIGHTS).write_bytes(damaged(data, (folder / WEIGHTS).read_bytes(), 3000))
    load_model(folder)


def reads_header(data: st.DataObject, folder: Path) -> None:
    content = (folder / WEIGHTS).read_bytes()
    length = int.from_bytes(content[:8], "little")
    written = json.dumps(changed(data, json.loads(content[8 : 8 + length]))).encode()
    (folder / WEIGHTS).write_bytes(len(written).to_bytes(8, "little") + written + content[8 + length :])
    load_model(folder)


def reads_space(data: st.DataObject, folder: Path) -> None:
    space = spaces[data.draw(st.sampled_from(["laptop", "hybrid_lm"]))]()
    check_size(from_plain(changed(data, to_plain(getattr(space, "root", space)))))


def reads_spec(data: st.DataObject, folder: Path) -> None:
    spec = from_json(json.dumps(changed(data, to_plain(SPEC))))
    check_size(spec)


def reads_corpus(data: st.DataObject, folder: Path) -> None:
    from evaluators.corpus import load_corpus, open_corpus

    (folder / "text").mkdir()
    (folder / "text" / "a.txt").write_text("some text\n" * 3000)
    held = Path(load_corpus(folder / "text", cache=folder / "cache").folder)
    if data.draw(st.booleans()):
        meta = json.loads((held / "meta.json").read_text())
        (held / "meta.json").write_text(json.dumps(changed(data, meta)))
    else:
        name = data.draw(st.sampled_from(["meta.json", "train.bin", "valid.bin"]))
        (held / name).write_bytes(damaged(data, (held / name).read_bytes(), 500))
    with contextlib.suppress(NasError):
        open_corpus(held)
    load_corpus(folder / "text", cache=folder / "cache")  # made again


READERS: dict[str, Callable[[st.DataObject, Path], None]] = {
    reader.__name__: reader
    for reader in (
        reads_config,
        reads_config_text,
        reads_weights,
        reads_header,
        reads_space,
        reads_spec,
        reads_corpus,
    )
}


def fuzz(name: str, examples: int, derandomize: bool) -> None:
    """Run a reader on many changed inputs, within its limits; anything but an error of ours rises."""

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=derandomize,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def run(data: st.DataObject) -> None:
        with tempfile.TemporaryDirectory() as made:
            folder = whole(Path(made)) if name not in ("reads_corpus",) else Path(made)
            with contextlib.suppress(NasError):
                READERS[name](data, folder)

    limit_process(SECONDS, MEGABYTES)
    run()


@pytest.mark.parametrize("name", list(READERS))
def test_whatever_is_read_is_read_or_refused(name: str) -> None:
    ended = Fork(fuzz, name, int(os.environ.get("FUZZ_EXAMPLES", EXAMPLES)), "CI" in os.environ).wait(300)
    assert ended.returncode == 0, ended.stderr[-3000:]
