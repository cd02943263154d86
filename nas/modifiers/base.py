"""The contract of a modifier: it makes another network of a trained one, which is exported like the first.

    @modifiers.add
    @dataclass(frozen=True, kw_only=True)
    class Mine(Modifier):
        name = "mine"
        share: float = setting(0.5, help="Share of something.", least=0, most=1)

        def changed(self, spec):                    # the architecture that comes out
            return replace(spec, ...)

        def modify(self, model, work):              # the network of it
            return Changed(build(...))

A modifier is one file in this folder: `nas mine FOLDER -o OUT --share 0.3` is its command, and
`nas run mine,share=0.3 FOLDER -o OUT --then ...` a list of several (`nas.modification`). It reads a network
and calibration text, and never the validation windows: on these, what runs it measures every figure before
and after.

Its settings are checked values that may be left open, `Quantize(bits=one_of(4, 3))`: a tuple of modifiers is
then a space like any other, which is closed before it is run.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from evaluators.compression.adapters import Adapter
from evaluators.tasks.base import Task
from evaluators.training.recipe import Recipe
from foundation.components import Part
from foundation.errors import SettingError
from foundation.registry import Registry
from foundation.settings import describe, setting
from foundation.text import size
from nas.progress import Progress
from search_spaces.language.walk import open_values
from search_spaces.network.decoder import Decoder
from search_spaces.network.model import Model
from search_spaces.network.weight_formats import weight_bits
from search_spaces.scenario import Scenario

modifiers: Registry[type[Modifier]] = Registry("modifier", folder="nas.modifiers")
"""All modifiers by name."""


@dataclass(frozen=True)
class Work:
    """What a modifier works with: text to calibrate and train on, and a folder for its checkpoints.

    `origin` gives the network that the first modifier of a list was given.
    """

    task: Task
    origin: Callable[[], Model]
    seed: int = 0
    folder: Path | None = None
    progress: Progress = field(default_factory=Progress)

    def calibration(self, windows: int) -> Tensor:
        """Tokens [W, T] of the training part."""
        return self.examples(windows)[0]

    def examples(self, windows: int) -> tuple[Tensor, Tensor]:
        """Tokens and targets [W, T] of the training part."""
        return self.task.train_batch(0, self.seed, windows)

    @cached_property
    def teacher(self) -> Model:
        """The network that the list of modifiers began with."""
        return self.origin()


@dataclass(frozen=True)
class Changed:
    """The network that a modifier made, and what it has to say of its work, as plain values.

    `adapter` is what it has learned, apart from the weights of the network that it was given.
    """

    model: Model
    notes: Mapping[str, Any] = field(default_factory=dict)
    adapter: Adapter | None = None


@dataclass(frozen=True)
class Estimate:
    """What a modifier will do, known before it runs.

    `params` and `weight_bytes` are those of the network before and after, `trainable` is how many parameters
    are trained, and `flops` what its own work takes, for windows of the scenario's prompt. Sizes are not
    `exact` where they depend on what the text says.
    """

    params: tuple[int, int]
    weight_bytes: tuple[int, int]
    trainable: int
    flops: float
    exact: bool = True

    def __str__(self) -> str:
        """In one line."""
        (before, after), (old, new) = self.params, self.weight_bytes
        trained = f", {self.trainable:,} of them trained" if self.trainable else ""
        about = "" if self.exact else "about "
        return (
            f"{before:,} -> {about}{after:,} parameters{trained}, {size(old)} -> {about}{size(new)},"
            f" {self.flops:.2g} FLOPs of work"
        )


def recipe_setting(learned: str, usual: str = "default") -> Any:
    """The setting of a modifier that says by which recipe it learns something."""
    return setting(
        Recipe.from_word(usual),
        help=f"How {learned} are learned: a ready-made recipe (`nas recipes`), and single settings of it.",
        metavar="NAME|NAME=VALUE",
        repeated=True,
        shown=usual,
    )


@dataclass(frozen=True, kw_only=True)
class Modifier(Part, ABC):
    """One way to make another network, with its settings; a subclass defines `name` and `modify`."""

    example: ClassVar[str] = ""
    """Options that the example in its command's help gives, where those that are usual do nothing."""

    registry = modifiers

    def __post_init__(self) -> None:
        """Check all values, once none is open."""
        if next(open_values(tuple(getattr(self, d.name) for d in describe(type(self)))), None) is None:
            super().__post_init__()
            self.check()

    def check(self) -> None:
        """Raise `SettingError` for values that do not go together."""

    def located(self, store: str) -> Self:
        """The same with what it names of the tables beside a store as files.

        Raises:
            UnknownName: there is none of this name.
        """
        return self

    def require_read(self, given: Iterable[str]) -> None:
        """Raise `SettingError` where one of these settings, which a user wrote, counts for nothing here."""

    def unsupported(self, spec: Decoder) -> str:
        """Why it does nothing to a network, as the end of a sentence; empty where it does."""
        return ""

    def changed(self, spec: Decoder) -> Decoder:
        """The architecture that it makes of another.

        Raises:
            IllegalArchitecture: it cannot be built.
        """
        return spec

    def trainable(self, spec: Decoder) -> int:
        """How many parameters it trains."""
        return 0

    @property
    def folders(self) -> tuple[str, ...]:
        """Folders that it reads, which must not be the one that is written."""
        return ()

    def flops(self, spec: Decoder, scenario: Scenario) -> float:
        """What its own work takes, for windows of the scenario's prompt."""
        return 0.0

    def estimate(self, spec: Decoder, scenario: Scenario) -> Estimate:
        """What it will do to a network.

        Raises:
            SettingError: it cannot be applied to it.
        """
        self.require(spec)
        before, after = spec.cost(scenario), self.changed(spec).cost(scenario)
        return Estimate(
            (before.params, after.params),
            (before.weight_bytes, after.weight_bytes),
            self.trainable(spec),
            self.flops(spec, scenario),
        )

    def require(self, spec: Decoder) -> None:
        """Make sure that it can be applied to a network.

        Raises:
            SettingError: it cannot.
        """
        if reason := self.unsupported(spec):
            raise SettingError(f"{self.name}: {reason}")
        if spec.soft_prompt is not None:
            raise SettingError(
                f"{self.name}: the network has a soft prompt, which was learned for it as it is: begin with"
                " the network without it, and let what comes out learn a prompt"
            )
        self.changed(spec).check()

    def modify(self, model: Model, work: Work) -> Changed:
        """The network that comes out; `model` may be used up.

        Raises:
            SettingError: it cannot be applied to this network.
            EvaluationFailed: a loss is not finite.
        """
        raise NotImplementedError


def modifier_of(text: str) -> Modifier:
    """The modifier that `NAME[,SETTING=VALUE...]` describes.

    Raises:
        UnknownName: there is no such modifier, or it has no such setting; the nearest is named.
        SettingError: a value is out of range.
    """
    if not isinstance(text, str):
        raise SettingError(f"a modifier is written as its name, such as quantize,bits=4, got {text!r}")
    return Modifier.from_line(text)


def layer_matrices(model: Model) -> list[str]:
    """The matrices of the layers, in the order of the layers: no gain, bias, decay or tap of a filter."""
    formats, roles = weight_bits(model), model.roles()
    return [
        name
        for name, stored in formats.items()
        if stored is not None and name.startswith("layers.") and roles[name].kind == "matrix"
    ]


def forward_flops(spec: Decoder, windows: int, scenario: Scenario) -> float:
    """FLOPs of reading so many windows of the scenario's prompt once."""
    one = Scenario(batch=1, prompt=scenario.prompt, new_tokens=1)
    return float(windows * spec.cost(one).prefill_flops)


@torch.no_grad()
def built_like(model: Model, spec: Decoder) -> Model:
    """A network of another configuration, whose parameters have equal shapes, with the same weights."""
    with torch.device("meta"):
        new = Model(spec)
    new = new.to_empty(device=model.embedding.device).eval()
    held = dict(model.named_parameters())
    for name, weight in new.named_parameters():
        weight.copy_(held[name])
    return new
