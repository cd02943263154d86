"""Exported models from somebody else, folders to export into, and texts: nothing in them is believed."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from search_spaces.language.serialization import to_plain
from search_spaces.network.model import build
from search_spaces.network.model_files import WEIGHTS, save_model
from tests.faults.campaign import Case
from tests.faults.models import (
    LAYER,
    PLAIN_LAYER,
    SPEC,
    as_it_is,
    config,
    header,
    instead,
    layer,
    mixer,
    one_tensor,
    ones,
    spec,
    tensors,
    text,
    whole,
)

GENERATE = "generate model --prompt x -n 4"
NORM = "layers.0.sequence_mixer.norm"
BF16 = torch.bfloat16


def _repeated(depth: int) -> dict[str, Any]:
    return {"repeat": PLAIN_LAYER, "depths": [depth]}


def _nested(levels: int) -> str:
    return '{"format": 2, "spec": ' + "[" * levels + "]" * levels + "}"


ARCHITECTURES = [
    ("4e8 layers by repeat", spec(layers=_repeated(4 * 10**8)), "at most 4,096"),
    ("1e6 layers by repeat", spec(layers=_repeated(10**6)), "at most 4,096"),
    (
        "1e6 layers by repeats inside repeats",
        spec(layers={"repeat": _repeated(1000), "depths": [1000]}),
        "values",
    ),
    (
        "1e6 layers one by one",
        text('{"format": 2, "spec": [' + "{}," * 10**6 + "1]}"),
        "at most 4,096 entries",
    ),
    ("50 MB of configuration", text(" " * 50 * 2**20), "too large"),
    (
        "4096 layers that weigh nothing",
        spec(layers=[PLAIN_LAYER] * 4096),
        "parameters, and model.safetensors",
    ),
    ("a layer more than there are weights", spec(layers=[PLAIN_LAYER] * 3), "is missing"),
    ("a layer less than there are weights", spec(layers=[PLAIN_LAYER]), "no place for"),
    ("a width of 1e9", spec(d_model=10**9), "too large|parameters"),
    ("a width of 1e39", spec(d_model=10**39), "finite and within"),
    ("a width of 5000 digits", text('{"format": 2, "spec": {"d_model": 1' + "0" * 5000 + "}}"), "digits"),
    ("a vocabulary of 1e12", spec(vocab=10**12), "too large"),
    ("a vocabulary of 1e9", spec(vocab=10**9), "parameters, and model.safetensors has"),
    ("1e12 heads", mixer(num_heads=10**12), "too large|parameters"),
    ("heads of 1e11 channels", mixer(head_dim=10**11), "too large|parameters"),
    (
        "a decode state of gigabytes",
        layer(sequence_mixer={"type": "Based", "num_heads": 1, "state_dim": 512, "head_dim": 4096}),
        "decode state of",
    ),
    ("lists of 100000 levels", text(_nested(100_000)), "nested deeper"),
    ("objects of 100000 levels", text('{"a":' * 100_000 + "1" + "}" * 100_000), "nested deeper"),
    ("lists of 60 levels", text(_nested(60)), "expected a Decoder"),
    ("a space", spec(d_model={"one_of": [16, 32]}), "left open"),
    ("1e5 options", spec(d_model={"one_of": list(range(100_000))}), "at most"),
    (
        "an option of its own kind",
        spec(d_model={"one_of": [{"one_of": [1, 2]}, 3]}),
        "one_of directly inside",
    ),
    ("no architecture", text('{"format": 2}'), "'spec' is missing"),
    ("a layer alone", config(spec=PLAIN_LAYER), "expected a Decoder"),
    ("a number as architecture", config(spec=7), "expected a Decoder"),
    ("an unknown block", mixer(type="os.system"), "unknown block or part 'os.system'"),
    ("a block of a megabyte's name", mixer(type="x" * 10**6), "unknown block or part"),
    ("a type that is a list", mixer(type=["Attention"]), "a type is the name"),
    ("an unknown field", mixer(command="rm"), "has no field 'command'"),
    (
        "a block in the wrong place",
        spec(layers=[{**PLAIN_LAYER, "sequence_mixer": to_plain(LAYER.channel_mixer)}]),
        "must be a block that mixes sequence",
    ),
    (
        "a norm as a block",
        spec(layers=[{**PLAIN_LAYER, "sequence_mixer": to_plain(SPEC.norm)}]),
        "must be Block",
    ),
    ("bits of 5", spec(layers=[{**PLAIN_LAYER, "bits": {"type": "Bits", "weight": 5}}]), "known widths"),
    *(
        (f"a width of {value!r}", spec(d_model=value), "d_model|no number|expected a")
        for value in (0, -16, 16.5, True, None, "16", [16], {}, math.nan, math.inf)
    ),
    *(
        (f"{value!r} heads", mixer(num_heads=value), "num_heads|expected a|should be")
        for value in (0, -2, 2.0, False, None, "2", [2], {}, 3)
    ),
    *(
        (f"layers that are {value!r}", spec(layers=value), "layers|expected a|sequence")
        for value in (None, 3, "x", {}, [[]], [3])
    ),
]

CONFIGURATIONS = [
    *((f"format {value!r}", config(format=value), "has format") for value in (None, 1, 3, "2", [], 1e300)),
    *((f"about {value!r}", config(about=value), "'about' must be an object") for value in (None, 3, "x", [])),
    *(
        (f"a hash that is {value!r}", config(weights_sha256=value), "is not the file")
        for value in (3, "x", [], {})
    ),
    *(
        (f"a configuration of {what}", text(content), "cannot be read|has format")
        for what, content in (
            ("nothing", ""),
            ("half an object", '{"format": 2'),
            ("a list", "[]"),
            ("null", "null"),
            ("NaN", '{"format": NaN}'),
            ("1e999", '{"format": 1e999}'),
            ("names twice", '{"format": 2, "format": 2}'),
            ("half a character", '{"format": "\\ud800"}'),
            ("Latin 1", b'{"format": "\xe4"}'),
            ("UTF-16", '{"format": 2}'.encode("utf-16")),
            ("zeros", bytes(1000)),
        )
    ),
    *(
        (f"a configuration that is {what}", instead(make), r"cannot be read|is missing")
        for what, make in (
            ("a pipe", os.mkfifo),
            ("a folder", Path.mkdir),
            ("endless", lambda path: path.symlink_to("/dev/zero")),
            ("a link to itself", lambda path: path.symlink_to(path)),
            ("a link to nowhere", lambda path: path.symlink_to("nowhere")),
            ("a terabyte of holes", lambda path: (path.touch(), os.truncate(path, 2**40))),
        )
    ),
]

WRONG_TENSORS = [
    ("a scalar for a vector", {NORM: torch.ones(())}, r"should be F32 \[16\], and is F32 \[\]"),
    ("one value for a vector", {NORM: ones(1)}, r"and is F32 \[1\]"),
    ("one value for a matrix", {"embedding": ones(1, 1, dtype=BF16)}, r"and is BF16 \[1, 1\]"),
    ("a matrix turned", {"embedding": ones(16, 256, dtype=BF16)}, r"and is BF16 \[16, 256\]"),
    ("no values", {NORM: ones(0)}, r"and is F32 \[0\]"),
    ("float16 for bfloat16", {"embedding": ones(256, 16, dtype=torch.float16)}, "should be BF16"),
    ("integers for float32", {NORM: ones(16, dtype=torch.int64)}, "and is I64"),
    ("truth values for float32", {NORM: ones(16, dtype=torch.bool)}, "and is BOOL"),
    ("float64 for float32", {NORM: ones(16, dtype=torch.float64)}, "and is F64"),
    ("NaN", {NORM: ones(16) * math.nan}, "not finite"),
    ("infinity", {"embedding": ones(256, 16, dtype=BF16) * math.inf}, "not finite"),
    ("one tensor more", {"more": ones(1)}, "no place for 'more'"),
    ("a tensor with the name of a path", {"../../x": ones(1)}, "no place for '../../x'"),
    ("one tensor less", {NORM: None}, f"{NORM} is missing"),
]

WEIGHTS_FILES = [
    ("nothing", b""),
    ("nonsense", b"nonsense"),
    ("zeros", bytes(4096)),
    ("a header of 2^63 bytes", (2**63).to_bytes(8, "little")),
    ("a header of 100 MB", header(b" " * 100 * 2**20)),
    ("a header of 100000 levels", header(b"[" * 100_000)),
    ("a header that is a list", header([])),
    ("no tensors", header({})),
    ("a tensor of 2^80 bytes", one_tensor([2**40, 2**40])),
    ("a tensor behind the end", one_tensor([1], 2**40, 2**40 + 4)),
    ("a tensor of negative size", one_tensor([-1])),
    ("a tensor that ends before it begins", one_tensor([1], 4, 0)),
    ("a tensor of an unknown dtype", one_tensor([1], dtype="F999")),
    ("a pickle", b"\x80\x04cos\nsystem\n"),
]


def _larger(at: Path) -> None:
    os.truncate(whole(at) / WEIGHTS, 2**40)


def _flipped(at: Path) -> None:
    path = whole(at) / WEIGHTS
    content = bytearray(path.read_bytes())
    content[-1] ^= 4
    path.write_bytes(content)


def _of_another_task(at: Path) -> None:
    save_model(build(replace(SPEC, vocab=300), seed=1), at / "model")


CASES = [
    Case("a whole model writes", GENERATE, code=0, says="^x", prepare=as_it_is, lines=0),
    *(
        Case(f"a model with {n}", GENERATE, says=s, prepare=p)
        for n, p, s in (*ARCHITECTURES, *CONFIGURATIONS)
    ),
    *(Case(f"weights with {n}", GENERATE, says=s, prepare=tensors(c)) for n, c, s in WRONG_TENSORS),
    *(
        Case(f"weights that are {n}", GENERATE, says="the weights do not fit", prepare=text(content, WEIGHTS))
        for n, content in WEIGHTS_FILES
    ),
    *(
        Case(f"weights that are {n}", GENERATE, says="the weights do not fit", prepare=instead(make, WEIGHTS))
        for n, make in (
            ("a pipe", os.mkfifo),
            ("a folder", Path.mkdir),
            ("endless", lambda path: path.symlink_to("/dev/zero")),
            ("a link to itself", lambda path: path.symlink_to(path)),
            ("missing", lambda path: None),
        )
    ),
    Case("weights with a terabyte of holes", GENERATE, says="the weights do not fit", prepare=_larger),
    Case("weights with a bit that flipped", GENERATE, says="is not the file that", prepare=_flipped),
    Case(
        "no prompt",
        "generate model --prompt ''",
        says="prompt must not be empty",
        prepare=as_it_is,
    ),
    Case(
        "a prompt that is no UTF-8",
        ["generate", "model", "--prompt", os.fsdecode(b"\xff\xe4"), "-n", "2"],
        code=0,
        prepare=as_it_is,
        lines=0,
    ),
    Case("a model in an empty folder", "generate .", says="holds no exported model"),
    Case("a model in a path of nothing", ["generate", ""], says="a path must not be empty"),
    Case("a model that is a file", "generate a.txt", files={"a.txt": "x"}, says="holds no exported model"),
    Case(
        "a model behind a file", "generate a.txt/model", files={"a.txt": "x"}, says="holds no exported model"
    ),
    Case("a model of another task", GENERATE, says="only a model of 256 bytes", prepare=_of_another_task),
    Case("text at an empty path", "search laptop --name a --data ''", says="data must not be empty"),
    Case("text at a blank path", "search laptop --name a --data ' '", says="data must not be empty"),
]
