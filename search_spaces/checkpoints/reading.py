"""From a checkpoint to a model of ours with its weights.

    with open_checkpoint(path) as checkpoint:
        plan = plan_of(checkpoint)           # the family, the architecture, what memory it takes
        model = filled(plan, checkpoint)     # in float32

Everything that headers say is judged first: the tensors must be exactly those of the architecture, and the
memory must suffice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch

from foundation.errors import SettingError
from foundation.text import listed, size
from search_spaces.checkpoints.base import FLOATS, Checkpoint, Respelled
from search_spaces.checkpoints.folder import open_folder
from search_spaces.checkpoints.gguf import open_gguf
from search_spaces.devices import memory_available
from search_spaces.families.base import (
    Factors,
    Family,
    families,
    family_of,
    parameters_of,
    spec_of,
    tensors_of,
)
from search_spaces.families.config import Config
from search_spaces.network.decoder import Decoder
from search_spaces.network.model import Model

Progress = Callable[[int, int], None]
"""Hears how many of all values have been read."""


@dataclass(frozen=True)
class Plan:
    """What a checkpoint is here: `labels` are the kinds of its layers, `model` has no weights yet."""

    family: Family
    config: Config
    labels: list[str]
    spec: Decoder
    model: Model

    @property
    def unread(self) -> list[str]:
        """Keys of the configuration that may mean something, and that the family's table does not name."""
        return self.config.unread()


@contextmanager
def open_checkpoint(path: str | Path) -> Iterator[Checkpoint]:
    """A folder of transformers, or a file in GGUF.

    Raises:
        SettingError: it is no such thing; it is a pickle.
        FileError: it is damaged.
    """
    with (open_folder if Path(path).is_dir() else open_gguf)(path) as checkpoint:
        name = checkpoint.config.get("model_type", None)
        spellings = families[name].spellings if isinstance(name, str) and name in families else {}
        yield Respelled.of(checkpoint, spellings) if spellings else checkpoint


def plan_of(checkpoint: Checkpoint) -> Plan:
    """What a checkpoint is here; no weight is read.

    Raises:
        SettingError: an architecture that is not known here or has what we lack, tensors that are not those
            of the architecture, or a model that is too large for the memory at hand.
    """
    config = checkpoint.config
    family = family_of(config)
    spec, config = spec_of(family, config), family.modern(config)
    labels = family.stack.read(config)
    with torch.device("meta"):
        model = Model(spec)
    wanted = tensors_of(family, labels, dict(model.named_parameters()))
    _check_names(family, checkpoint, wanted)
    for name, tensor in wanted.items():
        about = checkpoint.about[name]
        if about.shape != tuple(tensor.shape):
            raise SettingError(
                f"{checkpoint.path}: {name} should have shape {list(tensor.shape)}, and has"
                f" {list(about.shape)}"
            )
        if about.dtype not in FLOATS:
            raise SettingError(
                f"{checkpoint.path}: {name} holds {about.dtype}: weights must be {listed(FLOATS)}"
            )
    _check_memory(model, checkpoint)
    return Plan(family, config, labels, spec, model)


@torch.no_grad()
def filled(plan: Plan, checkpoint: Checkpoint, heard: Progress = lambda done, total: None) -> Model:
    """The model with the weights of a checkpoint, in float32 and evaluation mode.

    Raises:
        SettingError: a weight is not finite, or two that should be one differ.
        FileError: a file is damaged.
    """
    for again, name in plan.family.repeated.items():
        both = plan.spec.head.tied and again in checkpoint.about and name in checkpoint.about
        if both and not torch.equal(checkpoint[again], checkpoint[name]):
            raise SettingError(
                f"{checkpoint.path}: {again} is not {name}, though the configuration ties them"
            )
    model = plan.model.to_empty(device="cpu")
    ours = dict(model.named_parameters())
    shapes = {name: tuple(parameter.shape) for name, parameter in ours.items()}
    total, done = sum(map(prod, shapes.values())), 0
    factors = plan.family.factors(plan.config)
    for name, theirs in parameters_of(plan.family, plan.labels, checkpoint, shapes):
        value = _multiplied(theirs, name, factors)
        if not value.isfinite().all():
            raise SettingError(f"{checkpoint.path}: {name} would have values that are not finite")
        ours.pop(name).copy_(value)
        done += value.numel()
        heard(done, total)
    assert not ours, f"{plan.family.name} has no rule for {next(iter(ours))}"
    return model.eval()


def _multiplied(value: torch.Tensor, name: str, factors: Mapping[str, Factors]) -> torch.Tensor:
    """A weight with the factors of the configuration in it, if it has any."""
    own = next((own for ending, own in factors.items() if name.endswith(ending)), (1.0,))
    if set(own) == {1.0}:
        return value
    exact = value.to(torch.promote_types(value.dtype, torch.float32))
    return exact * torch.tensor(own, dtype=exact.dtype).reshape(-1, *[1] * (value.dim() - 1))


def _check_names(family: Family, checkpoint: Checkpoint, wanted: Mapping[str, torch.Tensor]) -> None:
    """Raise `SettingError` unless a checkpoint has exactly these tensors."""
    for name in wanted:
        if name not in checkpoint.about:
            raise SettingError(
                f"{checkpoint.path}: {name} is missing, which {family.name} has by its configuration"
            )
    for name in checkpoint.about:
        known = name in wanted or name in family.repeated or name.endswith(family.ignored)
        if not known:
            raise SettingError(
                f"{checkpoint.path}: {family.name} has no place for {name} by its configuration"
            )


def _check_memory(model: Model, checkpoint: Checkpoint) -> None:
    """Raise `SettingError` where a model in float32, and its largest tensor once more, have no room."""
    values = sum(parameter.numel() for parameter in model.parameters())
    largest = max((prod(about.shape) for about in checkpoint.about.values()), default=0)
    needed, there = 4 * (values + 2 * largest), memory_available()
    if there is not None and needed > there:
        raise SettingError(
            f"{checkpoint.path} has {values:,} parameters, which take {size(needed)} of memory to read, and"
            f" {size(there)} are free"
        )
