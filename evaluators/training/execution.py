"""Where and how a training is computed: nothing of this changes the weights by more than rounding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from foundation.settings import MANY, Settings, setting
from search_spaces.devices import on_cuda

EAGER, INDUCTOR, TRACED = "none", "inductor", "aot_eager"
BACKENDS = (EAGER, INDUCTOR, TRACED)
"""How regions are compiled: not at all, by inductor, or only traced (which is quick, for tests)."""

SUPERNET_SHARE = 0.05
"""Seconds of compiling for each step of a supernet.

Where its sublayers are recorded, compiled ones save some hundredths of a second of a step of four networks on
an H200, and those of a space of eight mixers at five widths take several processes longer than a minute. So
with less time than for a network nothing is compiled.
"""

MOST_SECONDS = 1800.0
"""The most that this makes of it: by then everything was compiled."""


@dataclass(frozen=True, kw_only=True)
class Execution(Settings):
    """How the work of a training is done, beside the recipe that decides what is learned.

    See `evaluators.training.regions` for what is compiled. On a CPU it does not pay: compiling a sublayer
    takes a C++ compiler about a minute.
    """

    device: str = setting("cpu", help="Where to train: cpu, or cuda:0.")
    accumulate: int = setting(
        1, help="Gradient accumulation: micro-batches per batch, for less memory.", least=1, most=MANY
    )
    checkpoint_activations: bool = setting(
        False,
        help="Activation checkpointing: recompute layers in the backward pass, for less memory.",
    )
    compile: str = setting(
        EAGER,
        help="Compiles every distinct sublayer once: inductor; none; aot_eager only traces them.",
        choices=BACKENDS,
    )
    compile_seconds: float = setting(
        60.0,
        help="The longest time that compiling may take; what comes later is not. For a supernet that is not"
        " told, 0.05 s a step, or nothing if that is less than this.",
        least=0,
        most=1e6,
    )
    graphs: bool = setting(
        False,
        help="On a GPU, record the steps of one network as a CUDA graph, and the sublayers of a supernet.",
    )

    @classmethod
    def for_device(cls, device: str, **given: Any) -> Self:
        """What is fastest on a device, with the settings that are given."""
        fast: dict[str, Any] = {"compile": INDUCTOR, "graphs": True} if on_cuda(device) else {}
        return cls(device=device, **(fast | given))

    @classmethod
    def for_supernet(cls, device: str, steps: int, **given: Any) -> Self:
        """The same for a supernet that is trained for so many steps."""
        seconds = min(SUPERNET_SHARE * steps, MOST_SECONDS)
        pays = seconds >= cls.compile_seconds
        own: dict[str, Any] = {"compile_seconds": seconds} if pays else {"compile": EAGER}
        return cls.for_device(device, **{**({} if "compile_seconds" in given else own), **given})
