"""What weights of 8 and 4 bits take where a runtime multiplies them as integers, against float32.

    nice -n 10 python -m benchmarks.integer_weights --engines onnxruntime executorch --seconds 60

Two layers of attention (8 heads, 2 kv heads) and SwiGLU, prefill of 128 tokens and decoding at 144, one CPU
thread. All bits of an engine are timed in the same rounds, by the CPU time of the process, and told as ratios
to 16 bits, which run as float32. The difference is that of logits, after a prompt, from our own rounding of
weights and activations, as a share of their norm. Written after each engine, and what is in the file is not
measured again.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.common import RESULTS, provenance, show_plainly
from evaluators.training.network_training import rounded_model
from foundation.files import read_json, write_json
from hw_profiles.runtimes.base import random_tokens, runtime_of
from hw_profiles.timing.measure import decode_call, undisturbed
from hw_profiles.timing.rounds import Rounds, TimedCall
from hw_profiles.timing.timers import Calibration, Clock
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.model import Model, build
from search_spaces.quantization.bits import Bits
from search_spaces.quantization.kernels import factors_of
from search_spaces.scenario import Scenario

COMMAND = "python -m benchmarks.integer_weights"
PLAIN = Bits()
BITS = (
    PLAIN,
    *(Bits(weight=weight, activation=16, group=32) for weight in (8, 4)),
    *(Bits(weight=weight, activation=8, group=32) for weight in (8, 4)),
    Bits(weight=8, activation=8, group=65536),
)
ENGINES = ("onnxruntime", "executorch")


def main() -> None:
    """Time the bits that each engine has kernels for; print and keep."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    words.add_argument("--engines", nargs="+", choices=ENGINES, default=ENGINES)
    words.add_argument("--width", type=int, default=512)
    words.add_argument("--seconds", type=float, default=60.0, help="of timing, for each engine")
    words.add_argument("--output", type=Path, default=RESULTS / "integer_weights.json")
    given = words.parse_args()
    torch.set_num_threads(1)
    found: dict[str, Any] = read_json(given.output) if given.output.exists() else {}
    for engine in given.engines:
        key = f"{engine}, width {given.width}"
        if key not in found:
            found |= {"about": provenance(COMMAND), key: timed(engine, given.width, given.seconds)}
            write_json(given.output, found, indent=1)
        show_plainly(key, found[key]["rows"])


def timed(engine: str, width: int, seconds: float) -> dict[str, Any]:
    """A row for each of the bits: ratios to 16 bits with their intervals, and the difference of logits."""
    scenario = Scenario(engine=engine, weights="packed", prompt=128, new_tokens=32)
    runtime, calls, differences = runtime_of(scenario), dict[str, TimedCall](), dict[str, float]()
    for bits in BITS:
        if bits != PLAIN and factors_of(bits) not in runtime.kernels(scenario):
            continue
        model = rounded(width, bits)
        with torch.no_grad():
            made = runtime.prepare(model, scenario)
            logits: Any = made.prefill()
            expected = model(random_tokens(model, scenario, 0)[:, : scenario.prompt]).numpy()
        differences[named(bits)] = float(
            np.linalg.norm(np.asarray(logits[0]) - expected) / np.linalg.norm(expected)
        )
        calls[f"{named(bits)} prefill_ms"] = TimedCall(made.prefill)
        calls[f"{named(bits)} decode_ms"] = decode_call(made, scenario.decode_position)
    with undisturbed(scenario):
        rounds = Rounds(calls, Clock.PROCESS.timer("cpu"), calibrate=Calibration())
        rounds.warm_up()
        rounds.take_until(5, 31, 0.02, seconds)
    rows = []
    for name, difference in differences.items():
        row: dict[str, Any] = {"bits": name}
        for reading in ("prefill_ms", "decode_ms"):
            latency, plain = (rounds.latency(f"{each} {reading}") for each in (name, named(PLAIN)))
            row |= {
                reading: latency.median_ms,
                f"{reading} to 16 bits": latency.median_ms / plain.median_ms,
                f"half interval of {reading}": latency.uncertainty,
            }
        rows.append({**row, "difference": difference})
    return {"rows": rows, "rounds": rounds.done, "disturbed": rounds.disturbances()}


def named(bits: Bits) -> str:
    """How a row is called: bits of weights, of activations, and the group."""
    group = "a row" if bits.group > 4096 else bits.group
    return "16, 16" if bits == PLAIN else f"{bits.weight:g}, {bits.activation}, groups of {group}"


@torch.no_grad()
def rounded(width: int, bits: Bits) -> Model:
    """The network, its weights being values that these bits have."""
    attention = Attention(num_heads=8, num_kv_heads=2, head_dim=width // 8)
    layer = Layer(sequence_mixer=attention, channel_mixer=SwiGLU(expansion=3), bits=bits)
    return rounded_model(build(Decoder(d_model=width, layers=(layer, layer)), seed=1))


if __name__ == "__main__":
    main()
