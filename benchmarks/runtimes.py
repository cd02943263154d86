"""What the same networks take in different runtimes: which mixer is fastest depends on what runs it.

    python -m benchmarks.runtimes --mixers attention short_conv --engines eager onnxruntime --seconds 20

Networks of one kind of mixer without channel mixers, one CPU thread, prefill of 256 tokens and one decode
step at 256. All engines of a mixer are timed in the same rounds, by the CPU time of the process: compare
their ratios. What an engine cannot run is named with its reason. Written after each mixer, and what
is in the file already is not measured again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import provenance
from foundation.errors import ProfileError
from foundation.files import read_json, write_json
from hw_profiles.runtimes.base import runtime_of
from hw_profiles.timing.measure import decode_call, undisturbed
from hw_profiles.timing.rounds import Rounds, TimedCall
from hw_profiles.timing.timers import Calibration, Clock
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.base import Block
from search_spaces.blocks.gated_delta_net import GatedDeltaNet
from search_spaces.blocks.gated_linear_attention import GatedLinearAttention
from search_spaces.blocks.hyena import Hyena
from search_spaces.blocks.mamba import Mamba
from search_spaces.blocks.mamba2 import Mamba2
from search_spaces.blocks.retention import Retention
from search_spaces.blocks.rglru import RGLRU
from search_spaces.blocks.short_conv import ShortConv
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.model import build
from search_spaces.scenario import Scenario

COMMAND = "python -m benchmarks.runtimes"
WIDTH, PROMPT = 128, 256
MIXERS: dict[str, Block] = {
    "attention": Attention(num_heads=4, num_kv_heads=1, head_dim=32),
    "window": Attention(num_heads=4, num_kv_heads=1, head_dim=32, window=64),
    "short_conv": ShortConv(),
    "mamba2": Mamba2(num_heads=4, head_dim=64, state_dim=64),
    "mamba": Mamba(),
    "gated_delta_net": GatedDeltaNet(num_heads=4, head_dim=32),
    "gla": GatedLinearAttention(num_heads=4, head_dim=32, state_dim=32),
    "retention": Retention(num_heads=4, head_dim=32, state_dim=32),
    "rglru": RGLRU(num_heads=4, head_dim=32),
    "hyena": Hyena(),
}
ENGINES = ("eager", "compile", "onnxruntime", "executorch")


def main() -> None:
    """Time the mixers that were asked for, one after another."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mixers", nargs="+", choices=MIXERS, default=list(MIXERS))
    parser.add_argument("--engines", nargs="+", default=ENGINES)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=20.0, help="of timing, for each mixer")
    parser.add_argument("--output", type=Path, default=Path("runtimes.json"))
    given = parser.parse_args()
    found: dict[str, Any] = (
        read_json(given.output) if given.output.exists() else {"about": provenance(COMMAND)}
    )
    for name in given.mixers:
        key = f"{name}, {given.layers} layers: {', '.join(given.engines)}"
        if key not in found:
            found[key] = timed(MIXERS[name], given.layers, given.engines, given.seconds)
            write_json(given.output, found)
        print(key, json.dumps(found[key]), flush=True)


def timed(mixer: Block, layers: int, engines: list[str], seconds: float) -> dict[str, Any]:
    """Milliseconds and half the relative 90 % interval by engine and reading, or why there are none."""
    model = build(Decoder(vocab=256, d_model=WIDTH, layers=(Layer(sequence_mixer=mixer),) * layers))
    calls: dict[str, TimedCall] = {}
    refused: dict[str, str] = {}
    for engine in engines:
        scenario = Scenario(engine=engine, prompt=PROMPT, new_tokens=64)
        try:
            with torch.no_grad():
                made = runtime_of(scenario).prepare(model, scenario)
                step = decode_call(made, PROMPT)
                step.call()  # compiled here, where that is refused
        except ProfileError as error:
            refused[engine] = str(error)
        else:
            calls |= {f"{engine} prefill_ms": TimedCall(made.prefill), f"{engine} decode_ms": step}
    with undisturbed(Scenario(prompt=PROMPT)):
        rounds = Rounds(calls, Clock.PROCESS.timer("cpu"), calibrate=Calibration())
        rounds.warm_up()
        rounds.take_until(5, 31, 0.02, seconds)
    figures = {
        key: [round(rounds.latency(key).median_ms, 4), round(rounds.latency(key).uncertainty, 3)]
        for key in calls
    }
    return {**figures, "rounds": rounds.done, "disturbed": rounds.disturbances(), "refused": refused}


if __name__ == "__main__":
    main()
