"""A space of every registered kind of block, and which of them a device can run."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Collection, Sequence
from dataclasses import fields
from typing import Any

from foundation.errors import IllegalArchitecture, NasError
from hw_profiles.runtimes.base import runtime_of
from hw_profiles.timing.measure import undisturbed
from hw_profiles.timing.timers import on_gpu
from search_spaces.blocks.base import Block, blocks
from search_spaces.language.choices import one_of, repeat
from search_spaces.language.space import Space
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.model import build
from search_spaces.scenario import Scenario

OPEN: dict[str, tuple[int, ...]] = {
    "num_heads": (4, 8),
    "num_kv_heads": (1, 4),
    "head_dim": (16, 32),
    "state_dim": (8, 16, 32),
    "expansion": (2, 3, 4),
    "num_experts": (4, 8),
    "kernel": (3, 4, 7),
}
"""Fields that are left open, in every kind of block that has them."""

TRIAL_SECONDS = 150.0


def space_of_all(widths: Sequence[int], depths: Sequence[int], without: Collection[str] = ()) -> Space:
    """Every registered kind of block that can be built at these widths, its sizes left open."""
    kinds: dict[str, list[Block]] = {"sequence": [], "channels": []}
    for name, kind in blocks.items():
        open_block = None if name in without else _opened(kind, widths)
        if open_block is not None:
            kinds[kind.mixes].append(open_block)
    layer = Layer(sequence_mixer=one_of(*kinds["sequence"]), channel_mixer=one_of(*kinds["channels"]))
    return Space(
        Decoder(vocab=256, d_model=one_of(*widths), layers=repeat(layer, tuple(depths))), name="all kinds"
    )


def _opened(kind: type[Block], widths: Sequence[int]) -> Block | None:
    plain = kind()
    try:
        for width in widths:
            plain.check(width)
    except IllegalArchitecture:
        return None
    numbers = {f.name: getattr(plain, f.name) for f in fields(kind)}
    opened: dict[str, Any] = {
        name: one_of(*values)
        for name, values in OPEN.items()
        if isinstance(numbers.get(name), int) and not isinstance(numbers[name], bool)
    }
    return kind(**opened)


def network_of(kind: str, d_model: int) -> Decoder:
    """Two layers of one kind of block; what mixes channels alone stands behind the cheapest mixer."""
    block: Block = blocks[kind]()
    first = block if block.mixes == "sequence" else blocks["ShortConv"]()
    second = None if block.mixes == "sequence" else block
    return Decoder(d_model=d_model, layers=(Layer(sequence_mixer=first, channel_mixer=second),) * 2)


def try_kinds(kinds: Sequence[str], scenario: Scenario, d_model: int) -> None:
    """Run each kind once, and say so line by line; ends with the first that cannot be run."""
    with undisturbed(scenario):
        for kind in kinds:
            model = build(network_of(kind, d_model), device=scenario.device)
            try:
                calls = runtime_of(scenario).prepare(model, scenario)
                calls.prefill()
                calls.decode(scenario.decode_position)()
                failed = None
            except (NasError, RuntimeError) as error:
                failed = str(error).partition("\n")[0]
            print(json.dumps({"kind": kind, "failed": failed}), flush=True)
            if failed is not None:
                return


def failing_kinds(scenario: Scenario, d_model: int) -> dict[str, str]:
    """The kinds that cannot be run under a scenario, with the reason; tried in processes of their own.

    A capture that fails leaves its process unfit for further ones. On a CPU every kind runs (its tests say).
    """
    if not on_gpu(scenario):
        return {}
    waiting, failed = sorted(blocks), dict[str, str]()
    while waiting:
        tried = _tried(waiting, scenario, d_model)
        failed |= {kind: why for kind, why in tried.items() if why is not None}
        waiting = [kind for kind in waiting if kind not in tried]
        if waiting and not any(tried.values()):  # it died without a word
            failed[waiting[0]] = "its process ended"
            waiting = waiting[1:]
    return failed


def _tried(kinds: Sequence[str], scenario: Scenario, d_model: int) -> dict[str, str | None]:
    plain = json.dumps(scenario.to_json())
    command = [sys.executable, "-m", "benchmarks.profiles", "--try", *kinds]
    command += ["--try-scenario", plain, "--try-width", str(d_model)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TRIAL_SECONDS, check=False)
        said = done.stdout
    except subprocess.TimeoutExpired as late:
        said = late.stdout.decode() if isinstance(late.stdout, bytes) else late.stdout or ""
    news = [json.loads(line) for line in said.splitlines() if line.startswith("{") and line.endswith("}")]
    return {each["kind"]: each["failed"] for each in news}
