"""How a supernet is trained: what decides its weights (`Recipe`), and what only decides the work (`Work`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from evaluators.supernet.sandwich import SUBNETS
from evaluators.supernet.shrinking import WHOLE, Phase
from foundation.errors import SettingError, UnknownName
from foundation.registry import nearest
from search_spaces.language.genotype import Genotype

PRECISIONS = ("float32", "bfloat16")
SORTS = ("effect", "norm", "none")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything besides space, task, steps, seed and batch that decides the weights.

    `phases` are run one after the other (`evaluators.supernet.shrinking`); before each, what it will cut is
    put in order of importance, by effect or norm (`sort`, see `evaluators.supernet.importance`). A step
    visits `networks` subnets, each of which reads a batch of its own. With `soft` they share one, and all but
    the first learn from its predictions as well as from the text: their share grows from none, while the
    teacher knows nothing, to `soft` at the end. Learning rates are the blocks' own times `rate`, falling
    linearly to the share `floor`. `precision` is that of forward and backward; weights and optimizer stay in
    float32. `favoured` are genotypes as JSON, and `favour` the share of random subnets that are taken from
    their neighbourhood, where the whole space is open.

    Raises:
        SettingError: a value that makes no sense, by its name.
    """

    phases: tuple[Phase, ...] = WHOLE
    sort: str = "effect"
    networks: int = SUBNETS
    soft: float = 0.0
    rate: float = 1.5
    floor: float = 0.1
    precision: str = "float32"
    favoured: tuple[str, ...] = ()
    favour: float = 0.5

    def __post_init__(self) -> None:
        if not self.phases:
            raise SettingError("a recipe needs at least one phase")
        if not isinstance(self.networks, int) or self.networks < 1:
            raise SettingError(f"networks must be a positive whole number, got {self.networks!r}")
        for name in ("soft", "floor", "favour"):
            if not 0 <= getattr(self, name) <= 1:
                raise SettingError(f"{name} must be within [0, 1], got {getattr(self, name)!r}")
        if not self.rate > 0:
            raise SettingError(f"rate must be positive, got {self.rate!r}")
        for name, known in (("precision", PRECISIONS), ("sort", SORTS)):
            if getattr(self, name) not in known:
                raise SettingError(f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}")

    @property
    def genotypes(self) -> tuple[Genotype, ...]:
        """The favoured ones."""
        return tuple(map(Genotype.from_json, self.favoured))

    def to_plain(self) -> dict[str, Any]:
        """As values that JSON can hold."""
        return asdict(self)

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Recipe:
        """The recipe that `to_plain` wrote.

        Raises:
            UnknownName: a setting that recipes do not have, with the nearest.
            SettingError: a value that makes no sense.
        """
        known = {field.name for field in fields(cls)}
        for name in plain:
            if name not in known:
                raise UnknownName(f"a recipe has no setting {name!r}; {nearest(name, known)}")
        values: dict[str, Any] = {
            name: tuple(v) if isinstance(v, (list, tuple)) else v for name, v in plain.items()
        }
        if "phases" in values:
            values["phases"] = tuple(
                Phase(phase["name"], tuple(phase["varies"]), phase["share"]) for phase in values["phases"]
            )
        return cls(**values)


@dataclass(frozen=True, kw_only=True)
class Work:
    """Where and how the same training is computed; weights differ by rounding only.

    A batch is read in `pieces`, whose gradients are added up: activations take that much less memory. With
    `recompute`, layers are computed again in the backward pass instead of keeping what is inside them. A
    subnet that has been visited `compile_after` times is compiled (None: never, since compiling takes
    seconds, and most subnets of a large space come once); it pays where few networks come again and again.

    Raises:
        SettingError: pieces or visits are no positive whole number.
    """

    device: str = "cpu"
    pieces: int = 1
    recompute: bool = False
    compile_after: int | None = None

    def __post_init__(self) -> None:
        for name in ("pieces", "compile_after"):
            value = getattr(self, name)
            if name == "compile_after" and value is None:
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise SettingError(f"{name} must be a positive whole number, got {value!r}")
