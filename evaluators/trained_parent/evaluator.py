"""A trained parent as an evaluator: it scores networks of a space around it, which have its weights."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from time import monotonic
from typing import Any

import torch

from evaluators.blockwise.additive_part import does_not_add_up
from evaluators.blockwise.alignment import align
from evaluators.scoring.base import Score
from evaluators.supernet.evaluator import FromSupernet
from evaluators.supernet.training import SupernetTraining
from evaluators.trained_parent.filling import filled_from, require_around
from evaluators.trained_parent.library import Library
from evaluators.trained_parent.rounding import prepared_at, sites_of
from evaluators.training.process_group import SINGLE_PROCESS, ProcessGroup
from foundation.errors import EvaluationFailed, NoFile, SettingError
from search_spaces.language.space import Space
from search_spaces.network.cost import parameter_shapes
from search_spaces.network.decoder import Decoder
from search_spaces.network.model import Model
from search_spaces.network.model_files import HASH, load_model, read_config
from search_spaces.network.sublayers import sublayers_in, sublayers_of
from search_spaces.supernet import Supernet
from search_spaces.supernet.weights import at_bits

CALIBRATION = 32
"""Windows of the training text that matrices are rounded for."""

FORMAT, VERSION = "nas library of a parent", 1


@dataclass(frozen=True)
class FromParent(FromSupernet):
    """Scores an architecture with the weights of a trained network, in the folder `parent`, in its place.

    Kinds of blocks that the parent does not have are aligned to what it has, in `steps` steps; matrices of
    few bits are rounded by GPTQ for the inputs that they meet in the parent. Both are kept in `folder`.
    """

    parent: str = ""

    @property
    def parent_spec(self) -> Decoder:
        """The architecture of the parent.

        Raises:
            SettingError: the folder holds no model.
        """
        return _model(self.parent, self.execution.device).spec

    @property
    def work(self) -> tuple[str, int]:
        """What `train` does, and how many reports it makes: one for each place."""
        return "preparing what may stand in the parent", sum(
            s.block is not None for s in sublayers_of(self.parent_spec)
        )

    def told(self, loss: float) -> str:
        """What is said of a place: how much was prepared."""
        return f"{loss:.0f} matrices"

    def check(self, space: Space) -> None:
        """Refuse at once a space that is not around the parent.

        Raises:
            SettingError: it is not, or the parent's parts do not add up.
        """
        spec = self.parent_spec
        if reason := does_not_add_up(spec):
            raise SettingError(f"{self.parent}: {reason}, so its parts cannot be replaced one by one")
        require_around(space, spec, self.parent)

    def train(
        self,
        on_step: Callable[[int, float], None] | None = None,
        *,
        open_space: Callable[[], Space] | None = None,
        process_group: ProcessGroup = SINGLE_PROCESS,
        save_seconds: float | None = None,
        training: SupernetTraining | None = None,
    ) -> dict[str, Any]:
        """Align and round what may stand in the parent, or go on with what is missing.

        Raises:
            EvaluationFailed: an error is not finite.
            DataError: the folder was made of another parent, space or text.
        """
        began, library = monotonic(), self._library
        library.begin()
        supernet = self._aligned()
        tokens = self.task.train_batch(0, self.seed, CALIBRATION)[0].to(supernet.device)
        for number, site in enumerate(sites_of(supernet, self.parent_spec, tokens), 1):
            prepared = library.load(site.own.path)
            if prepared is None:
                prepared = prepared_at(supernet, site)
                library.save(site.own.path, prepared)
            if on_step is not None:
                on_step(number, len(prepared))
        return {"steps": self.steps, "seconds": monotonic() - began, "loss": [], "parent": self.parent}

    def verify(self) -> None:
        """Make sure that all was prepared.

        Raises:
            NoFile: something is missing, or damaged.
        """
        library = self._library
        for sublayer in sublayers_of(self.parent_spec):
            if sublayer.block is not None and library.load(sublayer.path) is None:
                raise NoFile(f"{self.folder} lacks what was prepared for {sublayer.path}")

    @property
    def supernet(self) -> Supernet:
        """The weights of the parent and its alternatives, and all that was prepared; opened once per process.

        Raises:
            EvaluationFailed: something is missing.
        """
        return _assembled(self)

    @torch.no_grad()
    def score_to_nearest(self, spec: Decoder) -> Score:
        """The score of a network whose weights are rounded to nearest, whatever was prepared."""
        subnet = self.supernet.subnet(spec)
        weights = {b.name: at_bits(self.supernet.weights[b.key][b.index], b.bits) for b in subnet.bindings}
        return self._scored(subnet, weights)

    def _aligned(self) -> Supernet:
        """The supernet with the parent's weights, other kinds of blocks aligned to it."""
        space, model = self._space(), _model(self.parent, self.execution.device)
        supernet = filled_from(space, model, seed=self.seed)
        how: dict[str, Any] = {
            "steps": self.steps,
            "seed": self.seed,
            "batch": self.batch,
            "recipe": self.recipe,
        }
        if not _other_kinds(space, model.spec):
            return supernet
        return align(supernet, model.spec, self.task, **how, folder=Path(self.folder) / "aligned").supernet

    @property
    def _library(self) -> Library:
        return Library(
            Path(self.folder),
            {
                "format": FORMAT,
                "version": VERSION,
                "parent": read_config(self.parent).get(HASH),
                "space": hashlib.sha256(self.space_json.encode()).hexdigest(),
                "text": self.task.digest,
                "seed": self.seed,
                "steps": self.steps,
                "batch": self.batch,
                "recipe": self.recipe.to_plain(),
                "calibration": CALIBRATION,
            },
        )


@lru_cache(maxsize=2)
def _model(folder: str, device: str) -> Model:
    return load_model(folder, device=device)


@lru_cache(maxsize=2)
def _assembled(evaluator: FromParent) -> Supernet:
    supernet, library = evaluator._aligned(), evaluator._library
    for sublayer in sublayers_of(evaluator.parent_spec):
        if sublayer.block is None:
            continue
        prepared = library.load(sublayer.path)
        if prepared is None:
            raise EvaluationFailed(
                f"{evaluator.folder} lacks what was prepared for {sublayer.path}: resume the study"
            )
        for where, stored in prepared.items():
            supernet.prepared[where] = {name: each.to(supernet.device) for name, each in stored.items()}
    return supernet


def _other_kinds(space: Space, parent: Decoder) -> bool:
    """Whether some place may have a block of a kind with weights that the parent does not have there."""
    own = {sublayer.key for sublayer in sublayers_of(parent)}
    return any(
        sublayer.block is not None
        and sublayer.key not in own
        and bool(parameter_shapes(sublayer.block, sublayer.d_model))
        for sublayer in sublayers_in(space)
    )
