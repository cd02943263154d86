"""Where and how a training is computed: nothing of this changes the weights by more than rounding."""

from __future__ import annotations

from dataclasses import dataclass

from foundation.settings import MANY, Settings, setting


@dataclass(frozen=True, kw_only=True)
class Execution(Settings):
    """How the work of a training is done, beside the recipe that decides what is learned.

    A subnet that has been visited `compile_after` times is compiled; that pays where few networks come again
    and again (see `evaluators.training.compilation`).
    """

    device: str = setting("cpu", help="Where to train: cpu, or cuda:0.")
    accumulate: int = setting(
        1, help="Gradient accumulation: micro-batches per batch, for less memory.", least=1, most=MANY
    )
    checkpoint_activations: bool = setting(
        False,
        help="Activation checkpointing: recompute layers in the backward pass, for less memory.",
    )
    compile_after: int | None = setting(
        None, help="Compile a network after this many visits; none: never.", least=1, most=MANY
    )
