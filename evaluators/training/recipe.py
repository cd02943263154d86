"""The recipe: everything that decides how weights are learned, as one value.

    Recipe()                            # the defaults
    Recipe().with_settings({"supernet.phases": "shrinking", "optimizer.decay": "0.05"})
    Recipe.from_word("trapezoid")       # a ready-made one (`recipes`), or FILE.json
    Recipe.from_plain(json.loads(text))

It belongs to a study like its scenario, names a training among all others (`Trajectory`), and is the same for
the supernet, for finalists and for networks that are trained alone. Space, task, steps, batch and random seed
are not part of it, nor what changes the work only (`Execution`).

Rates of blocks are swept at `BASE_TOKENS` a step for `BASE_STEPS` steps. Laws carry them to other batches and
horizons, as factors on all rates:

    batch_law    fourth_root, sqrt   (tokens of a step / BASE_TOKENS) ^ 1/4 or 1/2, from 1/4 to 4
    horizon_law  power               (tokens of the training / (BASE_STEPS BASE_TOKENS)) ^ HORIZON_POWER

The square root keeps the noise of Adam's steps (Malladi et al. 2022, arXiv:2205.10287; the decays of the
moments, which they scale as well, stay). It holds where gradients are mostly noise; beyond, a larger batch
gains little (McCandlish et al. 2018, arXiv:1812.06162). Measured from 2,048 to 8,192 tokens, attention,
windows and Mamba-2 follow it, and RG-LRU, mLSTM and RWKV-6 keep their rate: the fourth root is about 0.02
bits per byte from the best of either, and so the default (docs/decisions/0045). The power of the horizon is
that of Bjorck et al. 2024, arXiv:2409.19913; without a horizon the rate stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from evaluators.supernet.recipe import SupernetRecipe
from evaluators.training.optimizers.adamw import AdamW
from evaluators.training.optimizers.base import Optimizer
from evaluators.training.precision import AUTO, BFLOAT16, FLOAT32, PRECISIONS
from evaluators.training.recipes import recipes
from evaluators.training.schedules.base import Schedule
from evaluators.training.schedules.inverse_sqrt import InverseSqrt
from foundation.errors import SettingError
from foundation.files import read_json
from foundation.settings import Settings, setting
from foundation.text import shown
from search_spaces.devices import on_cuda

BATCH_LAWS: Mapping[str, float] = {"none": 0.0, "fourth_root": 0.25, "sqrt": 0.5}
"""The power of the ratio of tokens."""

HORIZON_LAWS = ("none", "power")

BASE_TOKENS, BASE_STEPS = 16 * 128, 200
"""The training at which blocks' rates are swept (`benchmarks/learning_rates.py`)."""

LARGEST_SCALE = 4.0
"""Of the law of the batch."""

HORIZON_POWER = -0.32


@dataclass(frozen=True, kw_only=True)
class Recipe(Settings):
    """How weights are learned. Learning rates are the blocks' own, times `rate`, times the schedule's share.

    Raises:
        SettingError: a value that is out of range, or that does not go together with another one.
    """

    optimizer: Optimizer = setting(
        AdamW(), help="How gradients become steps (evaluators.training.optimizers)."
    )
    schedule: Schedule = setting(
        InverseSqrt(), help="Learning rate by step where a network is trained alone (training.schedules)."
    )
    rate: float = setting(
        1.0, help="Factor on the blocks' learning rates where a network is trained alone.", above=0, most=1e6
    )
    clip: float | None = setting(
        1.0, help="Largest norm of the gradients; none: no clipping.", above=0, most=1e9
    )
    precision: str = setting(
        AUTO,
        help="Forward and backward pass; weights and optimizer stay in float32. auto: bfloat16 on a GPU,"
        " float32 elsewhere.",
        choices=PRECISIONS,
    )
    batch_law: str = setting(
        "fourth_root",
        help="How rates follow the tokens of a step: none, or by the root of their ratio to 2,048.",
        choices=tuple(BATCH_LAWS),
    )
    horizon_law: str = setting(
        "none",
        help="How rates follow the tokens of the whole training: none, or power, by their ratio to 409,600 to"
        " the power of -0.32. Only where the schedule has a horizon.",
        choices=HORIZON_LAWS,
    )
    block_rates: tuple[str, ...] = setting(
        (),
        help="Learning rates of kinds of blocks, KIND=RATE at width 64, in the place of their own"
        " (`nas tune-rates` finds them).",
    )
    supernet: SupernetRecipe = setting(SupernetRecipe(), help="What is particular to training a supernet.")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.rates_by_kind  # noqa: B018 - raises where one is wrong
        supernet = self.supernet
        if supernet.sorts and supernet.sort == "effect" and not self.optimizer.keeps_squared_gradients:
            raise SettingError(
                f"sort=effect needs the squared gradients, which {self.optimizer.name} does not keep:"
                " choose sort=norm or sort=none, or another optimizer"
            )

    @classmethod
    def from_word(cls, word: str) -> Recipe:
        """The ready-made recipe of a name, or the one in a file `NAME.json` (`nas recipes NAME > NAME.json`).

        Raises:
            UnknownName: there is no such recipe, or a file has a setting that there is not.
            FileError: the file cannot be read, or holds no JSON.
            SettingError: it holds no recipe, or a value is out of range.
        """
        if not word.endswith(".json"):
            named: Recipe = recipes[word]()
            return named
        plain = read_json(word)
        if not isinstance(plain, dict):
            raise SettingError(f"{word} holds no recipe: write settings by name, as `nas recipes NAME` does")
        return cls.from_plain(plain)

    @property
    def rates_by_kind(self) -> dict[str, float]:
        """The learning rates of `block_rates`.

        Raises:
            SettingError: one is not written KIND=RATE, or its rate is no number above 0 and below 10.
        """
        found = {}
        for text in self.block_rates:
            kind, _, written = text.partition("=")
            try:
                rate = float(written)
            except ValueError:
                rate = 0.0
            if not kind.isidentifier() or not 0 < rate < 10:
                raise SettingError(
                    f"block_rates must be KIND=RATE with a rate above 0 and below 10, got {shown(text)}:"
                    " write Attention=0.007"
                )
            found[kind] = rate
        return found

    def scale(self, tokens: int, steps: int | None) -> float:
        """The factor on all rates where a step reads so many tokens, and the horizon is `steps`, if any."""
        ratio = (tokens / BASE_TOKENS) ** BATCH_LAWS[self.batch_law]
        scale = float(min(LARGEST_SCALE, max(1 / LARGEST_SCALE, ratio)))
        if self.horizon_law == "power" and steps:
            scale *= (tokens * steps / (BASE_TOKENS * BASE_STEPS)) ** HORIZON_POWER
        return scale

    def unlike(self, other: Recipe) -> str:
        """The settings in which another recipe differs: `optimizer.decay=0.1, not 0.2`."""
        mine, theirs = _leaves(self.to_plain()), _leaves(other.to_plain())
        names = [name for name in mine if name in theirs and mine[name] != theirs[name]]
        return "; ".join(f"{name}={mine[name]}, not {theirs[name]}" for name in names)

    def on(self, device: str) -> Self:
        """The same with the precision that `auto` means on this device."""
        if self.precision != AUTO:
            return self
        return replace(self, precision=BFLOAT16 if on_cuda(device) else FLOAT32)

    def of_networks(self) -> dict[str, Any]:
        """What decides the weights of a network that is trained alone, as plain values."""
        return {name: value for name, value in self.to_plain().items() if name != "supernet"}

    def of_supernets(self) -> dict[str, Any]:
        """What decides the weights of a supernet, as plain values."""
        return {name: v for name, v in self.to_plain().items() if name not in ("schedule", "rate")}


def _leaves(plain: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Values by dotted name."""
    leaves: dict[str, Any] = {}
    for name, value in plain.items():
        inside = isinstance(value, Mapping)
        leaves |= _leaves(value, f"{path}{name}.") if inside else {f"{path}{name}": value}
    return leaves


DEFAULT = Recipe()
"""The recipe that trainings use where none is given."""
