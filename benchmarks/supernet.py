"""What it costs to read a network from the supernet instead of having it alone.

Three sizes of one space. The forward pass and the training step (forward, backward, clipping and optimizer)
of a subnet inside the supernet are timed over those of the same network extracted, in alternation, on one
pinned thread by its CPU time; the figure is the median of the ratios of neighbours. Targets: forward at most
1.03, training step at most 1.10, activation (views of the shared weights) at most 0.5 ms.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from benchmarks.common import keep, show
from evaluators.training.recipe import DEFAULT
from evaluators.training.regions import token_loss
from hw_profiles.timing.timers import quiet
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.mamba2 import Mamba2
from search_spaces.blocks.short_conv import ShortConv
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.choices import one_of, repeat
from search_spaces.language.genotype import Label
from search_spaces.language.space import Space
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.weight_formats import weight_bits
from search_spaces.quantization.bits import Bits
from search_spaces.quantization.rounding import round_all
from search_spaces.supernet import Subnet, Supernet

PAIRS = 41
BATCH, LENGTH = 8, 128
SIZES: dict[str, tuple[int, int, int]] = {"small": (64, 2, 2), "middle": (96, 4, 3), "large": (128, 6, 4)}


def space() -> Space:
    """Three kinds of mixers; the largest network has about ten times the parameters of the smallest."""
    layer = Layer(
        sequence_mixer=one_of(
            Attention(num_heads=4, num_kv_heads=one_of(1, 2, 4), head_dim=one_of(16, 32)),
            Mamba2(num_heads=4, head_dim=32, state_dim=one_of(16, 32)),
            ShortConv(),
        ),
        channel_mixer=SwiGLU(expansion=one_of(2, 3, 4)),
        bits=Bits(weight=one_of(8, 16)),
    )
    return Space(Decoder(d_model=one_of(64, 96, 128), layers=repeat(layer, (2, 4, 6))))


def spec_of(size: str, mixer: str) -> Decoder:
    """The network of a size, with one kind of mixer throughout."""
    width, depth, expansion = SIZES[size]
    wanted: dict[str, Label] = {"d_model": width, "layers": depth}

    def answer(path: str, labels: tuple[Label, ...]) -> Label:
        if path in wanted:
            return wanted[path]
        if path.endswith("sequence_mixer"):
            return mixer
        if path.endswith("expansion"):
            return expansion
        if path.endswith("bits.weight"):
            return 16
        return labels[-1] if size == "large" else labels[0]

    closed: Decoder = space().draw(answer)[1]
    return closed


def ratio(inside: Callable[[], Any], alone: Callable[[], Any], pairs: int = PAIRS) -> tuple[float, float]:
    """The median over neighbours of the time inside over the time alone, and its interquartile range."""
    for call in (inside, alone) * 3:
        call()
    ratios = []
    for number in range(pairs):
        order = (inside, alone) if number % 2 else (alone, inside)
        times = {call: timed(call) for call in order}
        ratios.append(times[inside] / times[alone])
    low, middle, high = statistics.quantiles(ratios, n=4)
    return middle, high - low


def timed(call: Callable[[], Any]) -> float:
    """Seconds of CPU time of this thread."""
    began = time.thread_time()
    call()
    return time.thread_time() - began


def forward_ratio(subnet: Subnet, tokens: Tensor) -> tuple[float, float]:
    """Forward in the supernet (weights taken once, as an evaluator does) over the extracted model's."""
    with torch.no_grad():
        weights, model = subnet.weights(), subnet.extract().eval()
        return ratio(lambda: subnet(tokens, weights), lambda: model(tokens))


def step_ratio(subnet: Subnet, tokens: Tensor) -> tuple[float, float]:
    """A training step of the subnet alone in the supernet over one of the extracted model."""
    supernet, model = subnet.supernet, subnet.extract()
    parameters, bits = dict(model.named_parameters()), weight_bits(model)
    shared = DEFAULT.optimizer.make(supernet.weights, supernet.rates, supernet.roles)
    own = DEFAULT.optimizer.make(parameters, model.learning_rates(), model.roles())
    clip = DEFAULT.clip or math.inf

    def inside() -> None:
        supernet.zero_grad()
        leaves = subnet.leaves()
        token_loss(subnet(tokens, subnet.rounded(leaves))[:, :-1], tokens[:, 1:]).backward()
        supernet.add_gradients(subnet.bindings, leaves)
        nn.utils.clip_grad_norm_(supernet.parameters(), clip)
        shared.step()

    def alone() -> None:
        own.zero_grad()
        logits = functional_call(model, round_all(parameters, bits), (tokens,), tie_weights=False)
        token_loss(logits[:, :-1], tokens[:, 1:]).backward()
        nn.utils.clip_grad_norm_(parameters.values(), clip)
        own.step()

    return ratio(inside, alone)


def activation_ms(subnet: Subnet, repeats: int = 200) -> float:
    """Milliseconds to take the views of a subnet (median)."""
    for _ in range(20):
        subnet.leaves()
    return 1000 * statistics.median(timed(subnet.leaves) for _ in range(repeats))


def measure(supernet: Supernet, size: str, mixer: str) -> dict[str, Any]:
    """One row of the table."""
    subnet = supernet.subnet(spec_of(size, mixer))
    tokens = torch.randint(256, (BATCH, LENGTH), generator=torch.Generator().manual_seed(0))
    forward, forward_spread = forward_ratio(subnet, tokens)
    step, step_spread = step_ratio(subnet, tokens)
    return {
        "size": size,
        "mixer": mixer,
        "parameters": len(subnet.bindings),
        "forward ratio": forward,
        "forward IQR": forward_spread,
        "step ratio": step,
        "step IQR": step_spread,
        "activation ms": activation_ms(subnet),
    }


def main() -> None:
    """Run, print and keep everything."""
    supernet = Supernet(space())
    with quiet(1):
        rows = [measure(supernet, size, mixer) for size in SIZES for mixer in ("Attention", "Mamba2")]
    verdicts = [
        {"target": name, "worst": worst, "wanted": f"<= {most:g}", "met": worst <= most}
        for name, most in (("forward ratio", 1.03), ("step ratio", 1.10), ("activation ms", 0.5))
        for worst in [max(float(row[name]) for row in rows)]
    ]
    show("Subnet in the supernet over the same network extracted", rows)
    show("Targets", verdicts)
    keep("supernet", "python -m benchmarks supernet", rows, targets=verdicts)


if __name__ == "__main__":
    main()
