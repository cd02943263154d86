"""What the formats made of programs share: sizes, and the check against our own model.

A format of this kind holds two programs (`search_spaces.network.programs`): one reads a prompt, one decodes a
token, and the decode state goes in and out. Some hold weights of few bits as integers (`IntegerTarget`).

Shapes: B batch, T tokens, V vocab.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from foundation.errors import SettingError
from foundation.settings import setting
from nas.exports.base import Target
from search_spaces.network import programs
from search_spaces.network.decoder import Decoder
from search_spaces.network.model import Model
from search_spaces.network.programs import Programs

STEPS = 32
"""Steps of decoding that are checked."""

WRONG = 0.05
"""Of the largest logit: a difference above it is no rounding, not even of an activation between two codes."""

Call: TypeAlias = Callable[..., Sequence[Tensor]]
"""A loaded program: logits and the state, from tokens, or from a token, a position and the state."""


@dataclass(frozen=True, kw_only=True)
class ProgramTarget(Target):
    """A format of two programs; a subclass defines `name` and `write_files`."""

    prompt: int = setting(
        256,
        help="Tokens of the prompt that the program is traced with: where a block is computed in chunks it"
        " reads prompts of this length only.",
        least=2,
        most=10**6,
    )
    capacity: int = setting(1024, help="Tokens that the decode state has room for.", least=2, most=10**7)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.capacity < self.prompt + STEPS:
            raise SettingError(
                f"{self.name}: capacity must be at least {self.prompt + STEPS}, a prompt of {self.prompt} and"
                f" the {STEPS} steps that are checked, got {self.capacity}"
            )

    def unsupported(self, spec: Decoder) -> str:
        """See `Target.unsupported`."""
        return programs.unsupported(spec)

    def about(self, made: Programs) -> dict[str, Any]:
        """What is told of the programs."""
        return {"prompt": made.prompt or "any", "capacity": made.capacity, "state": list(made.state)}


@dataclass(frozen=True, kw_only=True)
class IntegerTarget(ProgramTarget):
    """A format of two programs that can hold weights of 8 and 4 bits as integers."""

    weights: int = setting(32, help="Bits of the weights of products.", choices=(32, 8, 4))
    packed: bool = setting(False, help="Store weights that have 8 or 4 bits in the network as integers.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.packed and self.weights < 32:
            raise SettingError(
                f"{self.name}: packed keeps the network's own bits, so weights={self.weights} cannot"
            )


@torch.no_grad()
def differences(
    model: Model,
    prefill: Call,
    step: Call,
    *,
    prompt: int,
    capacity: int,
    seed: int = 0,
    rounded: bool = False,
) -> Mapping[str, float]:
    """The largest absolute differences of logits from our own model, for a prompt and for steps after it.

    Both decode the same random tokens, each from its own state. `rounded` says that the programs have other
    weights than the model, by rounding.

    Raises:
        SettingError: what came back is not finite, of another shape, or something else than ours.
    """
    dice = torch.Generator().manual_seed(seed)
    tokens = torch.randint(model.spec.vocab, (1, prompt + STEPS), generator=dice)
    expected, own = model.prefill(tokens[:, :prompt], capacity=capacity)
    logits, *state = prefill(tokens[:, :prompt])
    largest = expected.abs().max()
    found = {"prefill": _difference(logits, expected), "decode": 0.0}
    for position in range(prompt, prompt + STEPS):
        token = tokens[:, position]
        expected, own = model.step(token, own)
        logits, *state = step(token, torch.tensor(position), *state)
        found["decode"] = max(found["decode"], _difference(logits, expected))
        largest = largest.maximum(expected.abs().max())
    told = {"prefill": found["prefill"], f"{STEPS} steps of decoding": found["decode"]}
    for what, difference in told.items():
        if not rounded and difference > WRONG * float(largest):
            raise SettingError(
                f"the export computes something else: its logits differ by {difference:.2g} ({what}), where"
                f" the largest of ours is {float(largest):.2g}; this is a fault of the runtime or of this"
                " project: try another format or another prompt, and report it"
            )
    return told


def _difference(logits: Tensor, expected: Tensor) -> float:
    if logits.shape != expected.shape:
        raise SettingError(f"the export gives logits {list(logits.shape)}, ours are {list(expected.shape)}")
    difference = float((logits.double() - expected.double()).abs().max())
    if difference != difference:
        raise SettingError("the export gives logits that are no numbers")
    return difference
