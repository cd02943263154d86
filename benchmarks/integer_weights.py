"""What weights of 8 and 4 bits take where a runtime multiplies them as integers, against float32.

    nice -n 10 python -m benchmarks.integer_weights --engines onnxruntime executorch --seconds 60
    python -m benchmarks.integer_weights --device cuda:0 --engines graph --width 4096

Two layers of attention (8 heads, 2 kv heads) and SwiGLU, prefill of 128 tokens and decoding at 144, one CPU
thread; on a GPU prefill of 2,048 tokens and decoding at 2,064, in bfloat16, with float8 beside integers. All
bits of an engine are timed in the same rounds, by the CPU time of the process or the events of the GPU, and
told as ratios to 16 bits, which run as float32 on a CPU. The difference is that of logits, after a prompt,
from our own rounding of weights and activations, as a share of their norm. Written after each engine, and
what is in the file is not measured again.
"""

from __future__ import annotations

import argparse
from copy import deepcopy
from dataclasses import replace
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
FLOAT8 = Bits(weight=8, activation=8, numbers="float")
TORCH = ("eager", "graph")
ENGINES = ("onnxruntime", "executorch", *TORCH)


def main() -> None:
    """Time the bits that each engine has kernels for; print and keep."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    words.add_argument("--engines", nargs="+", choices=ENGINES, default=ENGINES[:2])
    words.add_argument("--device", default="cpu", help="cpu, or cuda:0, which eager and graph have")
    words.add_argument("--width", type=int, default=512)
    words.add_argument("--seconds", type=float, default=60.0, help="of timing, for each engine")
    words.add_argument("--output", type=Path, default=RESULTS / "integer_weights.json")
    given = words.parse_args()
    torch.set_num_threads(1)
    found: dict[str, Any] = read_json(given.output) if given.output.exists() else {}
    for engine in given.engines:
        where = given.device if given.device == "cpu" else torch.cuda.get_device_name(given.device)
        key = f"{engine}, width {given.width}" + (f", {where}" if given.device != "cpu" else "")
        if key not in found:
            found |= {"about": provenance(COMMAND), key: timed(engine, given)}
            write_json(given.output, found, indent=1)
        show_plainly(key, found[key]["rows"])


def timed(engine: str, given: argparse.Namespace) -> dict[str, Any]:
    """A row for each of the bits: ratios to 16 bits with their intervals, and the difference of logits."""
    scenario = Scenario(engine=engine, weights="packed", prompt=128, new_tokens=32)
    if given.device != "cpu":
        scenario = replace(scenario, device=given.device, dtype="bfloat16", prompt=2048)
    runtime, calls, differences = runtime_of(scenario), dict[str, TimedCall](), dict[str, float]()
    for bits in (*BITS, FLOAT8):
        if bits != PLAIN and factors_of(bits) not in runtime.kernels(scenario):
            continue
        model = rounded(given.width, bits)
        with torch.no_grad():
            made = runtime.prepare(model, scenario)
            logits: Any = made.prefill()
            tokens = random_tokens(model, scenario, 0)[:, : scenario.prompt].to(given.device)
            home = deepcopy(model).to(given.device)
            expected = home(tokens).float().cpu().numpy()
            if engine in TORCH:
                logits = [runtime.placed(model, scenario)(tokens).float().cpu()]
        differences[named(bits)] = float(
            np.linalg.norm(np.asarray(logits[0]) - expected) / np.linalg.norm(expected)
        )
        calls[f"{named(bits)} prefill_ms"] = TimedCall(made.prefill)
        calls[f"{named(bits)} decode_ms"] = decode_call(made, scenario.decode_position)
    with undisturbed(scenario):
        clock = Clock.PROCESS if given.device == "cpu" else Clock.EVENTS
        calibrate = Calibration() if given.device == "cpu" else None
        rounds = Rounds(calls, clock.timer(given.device), calibrate=calibrate)
        rounds.warm_up()
        rounds.take_until(5, 31, 0.02, given.seconds)
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
    if bits == PLAIN:
        return "16, 16"
    if bits == FLOAT8:
        return "float8, float8"
    return f"{bits.weight:g}, {bits.activation}, groups of {group}"


@torch.no_grad()
def rounded(width: int, bits: Bits) -> Model:
    """The network, its weights being values that these bits have."""
    attention = Attention(num_heads=8, num_kv_heads=2, head_dim=width // 8)
    layer = Layer(sequence_mixer=attention, channel_mixer=SwiGLU(expansion=3), bits=bits)
    return rounded_model(build(Decoder(d_model=width, layers=(layer, layer)), seed=1))


if __name__ == "__main__":
    main()
