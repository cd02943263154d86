"""What is particular to training a supernet, as a part of the recipe (`evaluators.training.recipe`)."""

from __future__ import annotations

import json
from dataclasses import dataclass

from evaluators.supernet.sandwich import SUBNETS
from evaluators.supernet.shrinking import SHRINKING, WHOLE, Phase
from evaluators.training.schedules.base import Schedule
from evaluators.training.schedules.linear import Linear
from foundation.errors import SettingError
from foundation.settings import Settings, setting
from foundation.text import shown
from search_spaces.language.genotype import Genotype

SORTS = ("effect", "norm", "none")
PHASES = {"whole": WHOLE, "shrinking": SHRINKING}
"""Phases by name: everything open from the start, or opened in steps."""


@dataclass(frozen=True, kw_only=True)
class SupernetRecipe(Settings):
    """Which networks a step visits, what they learn from, and at which rate.

    `phases` are run one after the other (`evaluators.supernet.shrinking`); before each, what it will cut is
    put in order of importance, by effect or norm (`evaluators.supernet.importance`). With `distill`, networks
    share a batch, and all but the first learn from its predictions as well as from the text: their share
    grows from none, while the teacher has not learned yet, to `distill` at the end. Favoured genotypes wait
    until the whole space is open.

    Raises:
        SettingError: a value that is out of range, or no phase.
    """

    schedule: Schedule = setting(Linear(), help="Learning rate by step (training.schedules).")
    rate: float = setting(1.5, help="Factor on the blocks' learning rates.", above=0, most=1e6)
    phases: tuple[Phase, ...] = setting(
        WHOLE, help="whole: everything is open from the start; shrinking: in four phases.", named=PHASES
    )
    sort: str = setting("effect", help="Importance by which each phase sorts what it cuts.", choices=SORTS)
    networks: int = setting(
        SUBNETS, help="Networks per step: largest, smallest, random ones.", least=1, most=10**4
    )
    distill: float = setting(
        0.0,
        help="In-place distillation: networks of a step read one batch and learn by up to this share from the"
        " largest one's predictions. 0: each reads a batch of its own.",
        least=0,
        most=1,
    )
    favoured: tuple[str, ...] = setting(
        (), help="Genotypes (JSON) whose neighbourhood is visited more often."
    )
    favour: float = setting(0.5, help="Share of random networks from that neighbourhood.", least=0, most=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.phases:
            raise SettingError(f"phases must not be empty: write {' or '.join(PHASES)}")
        for text in self.favoured:
            if not _is_genotype(text):
                raise SettingError(f"favoured must be genotypes in JSON, got {shown(text)}")

    @property
    def sorts(self) -> bool:
        """Whether anything is put in order of importance."""
        return len(self.phases) > 1 and self.sort != "none"

    @property
    def genotypes(self) -> tuple[Genotype, ...]:
        """The favoured ones."""
        return tuple(map(Genotype.from_json, self.favoured))


def _is_genotype(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False
