"""What can be exported, and whether it computes the same: blocks, published architectures, random networks.

    nice -n 10 python -m benchmarks.real_models.exports --only block --prompts 100 300
    nice -n 10 python -m benchmarks.real_models.exports --only zoo random --formats onnx executorch

Every block alone (its first example), every point of the zoo with one layer of each kind that it has, and
random networks of `hybrid_lm`, 64 wide, of their first three layers. Each is exported and read again, which
compares logits of a prompt and of 32 steps with ours. Printed is the largest difference, or why a format has
none, with the blocks that alone are refused, too. Layers that only some tokens pass have no programs: such a
random network is told and tried without. Written after each network; what is in the file is not done again.

Activations and decode states of few bits are codes, and what lies between two of them falls to either by the
last bit of a sum. So a difference above rounding stands beside what the last bits do to ours (`moved`): the
largest difference of our own logits when the embedding moves by a millionth of itself. Where the export
differs by more, it is at fault.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from benchmarks.common import provenance
from foundation.errors import NasError
from foundation.files import read_json, write_json
from nas.exports.base import Network, target_of
from nas.exports.programs import differences
from search_spaces.blocks.base import Block, blocks
from search_spaces.blocks.short_conv import ShortConv
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.model import Model, build
from search_spaces.spaces import spaces
from search_spaces.zoo import zoo

COMMAND = "python -m benchmarks.real_models.exports"
WIDTH = 64
FORMATS = ("torch", "onnx", "executorch")
TOLERANCE = 1e-4
LAST_BITS, DRAWS = 1e-6, 16


def main() -> None:
    """Export what was asked for, one network after another."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--formats", nargs="+", choices=(*FORMATS, "hf"), default=FORMATS)
    parser.add_argument(
        "--only", nargs="+", choices=("block", "zoo", "random"), default=("block", "zoo", "random")
    )
    parser.add_argument("--random", type=int, default=30)
    parser.add_argument("--blocks", nargs="+", help="kinds of blocks; all that are known otherwise")
    parser.add_argument("--prompts", nargs="+", type=int, default=[100], help="a chunk has 64 tokens")
    parser.add_argument("--points", nargs="+", help="points of the zoo; all that are known otherwise")
    parser.add_argument("--output", type=Path, default=Path("exports.json"))
    given = parser.parse_args()
    found: dict[str, Any] = read_json(given.output) if given.output.exists() else {}
    torch.set_num_threads(1)
    keys = {row_key(form, prompt): (form, prompt) for form in given.formats for prompt in given.prompts}
    for name, spec in networks(given.random, given.blocks, given.points):
        if name.split()[0] not in given.only:
            continue
        rows = found.setdefault(name, {})
        for key, (form, prompt) in keys.items():
            before = dict(rows.get(key, {}))
            row = rows[key] = before or exported(spec, form, prompt)
            if row.get("difference", 0.0) > TOLERANCE and "moved" not in row:
                rows[key] = {**row, "moved": moved(spec, prompt)}
            if rows[key] != before:
                print(name, key, rows[key], flush=True)
                write_json(given.output, {**found, "about": provenance(COMMAND)}, indent=1)
    report(found)


def row_key(form: str, prompt: int) -> str:
    """What a network in a format is written under, for prompts of a length."""
    return form if form == "hf" else f"{form}, {prompt} tokens"


def networks(
    count: int, kinds: list[str] | None = None, points: list[str] | None = None
) -> Iterator[tuple[str, Decoder]]:
    """Names and networks; the name begins with what kind of network it is."""
    for kind, block in blocks.items():
        if kinds is None or kind in kinds:
            yield f"block {kind}", alone(block.examples()[0])
    for name, point in zoo.items():
        if points is None or name in points:
            yield f"zoo {name}", replace(point.spec, layers=tuple(dict.fromkeys(point.spec.layers)))
    space, dice = spaces["hybrid_lm"](), Random(0)
    for number in range(count):
        spec = space.close(space.sample(dice))
        spec = replace(spec, d_model=WIDTH, layers=spec.layers[:3])
        routed = sum(layer.routing is not None for layer in spec.layers)
        plain = replace(spec, layers=tuple(replace(layer, routing=None) for layer in spec.layers))
        yield f"random {number}{f' without {routed} routers' if routed else ''}", plain


def alone(block: Block) -> Decoder:
    """A network of one layer with this block."""
    if block.mixes == "sequence":
        return Decoder(d_model=WIDTH, layers=(Layer(sequence_mixer=block),))
    return Decoder(d_model=WIDTH, layers=(Layer(sequence_mixer=ShortConv(), channel_mixer=block),))


def exported(spec: Decoder, form: str, prompt: int) -> dict[str, Any]:
    """The largest difference of a network in a format and the seconds it took, or why there is none."""
    began = time.perf_counter()
    sizes = "" if form == "hf" else f",prompt={prompt},capacity={prompt + 64}"
    try:
        model = build(spec, seed=1)
        with TemporaryDirectory() as folder:
            told = target_of(form + sizes).export(Network(model), Path(folder) / "out")
    except (NasError, AssertionError, RuntimeError) as error:  # the latter are bugs, and told like the rest
        return {"refused": str(error)[:500], "seconds": round(time.perf_counter() - began, 1)}
    differences = told["differences"].values()
    return {"difference": max(differences), "seconds": round(time.perf_counter() - began, 1)}


@torch.no_grad()
def moved(spec: Decoder, prompt: int) -> float:
    """The largest difference of our own logits when the embedding moves by a few last bits, of some draws."""
    model, largest = build(spec, seed=1).eval(), 0.0
    for seed in range(DRAWS):
        other, dice = deepcopy(model), torch.Generator().manual_seed(seed)
        other.embedding.mul_(1 + LAST_BITS * (2 * torch.rand(other.embedding.shape, generator=dice) - 1))
        capacity = prompt + 64
        prefill: Any = partial(other.prefill, capacity=capacity)
        found = differences(
            model, prefill, partial(_step, other), prompt=prompt, capacity=capacity, rounded=True
        )
        largest = max(largest, *found.values())
    return largest


def _step(model: Model, token: Tensor, position: Tensor, state: Any) -> Any:
    """A step as a program takes it; the state knows its position."""
    return model.step(token, state)


def report(found: dict[str, Any]) -> None:
    """What every format took, what it computes otherwise, and what it refuses."""
    kinds = {(name.split()[0], key) for name, rows in found.items() if name != "about" for key in rows}
    for kind, key in sorted(kinds):
        rows = {name: row[key] for name, row in found.items() if name.startswith(f"{kind} ") and key in row}
        equal = [name for name, row in rows.items() if row.get("difference", 1.0) <= TOLERANCE]
        worst = max((rows[name]["difference"] for name in equal), default=0.0)
        print(f"\n{key}: {len(equal)} of {len(rows)} {kind} equal, largest difference {worst:.1e}")
        for name, row in rows.items():
            if name not in equal:
                beside = f", ours moves by {row['moved']}" if "moved" in row else ""
                print(f"  {name}: {row.get('refused') or row['difference']}{beside}")


if __name__ == "__main__":
    main()
