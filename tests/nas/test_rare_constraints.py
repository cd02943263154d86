"""Constraints that one of 2^16 to 2^20 architectures keeps: every strategy proposes many that do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, pairwise
from math import prod
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest

import nas
from foundation.errors import SpaceError
from nas.judging import MOVED
from nas.objectives.base import objectives
from nas.strategies.base import strategies
from nas.study.trial import Trial, TrialState
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.rglru import RGLRU
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.choices import one_of
from search_spaces.language.repair import LOOKS, repaired
from search_spaces.language.space import Space
from search_spaces.network.decoder import Decoder, Layer
from tests.nas import every_strategy


@dataclass(frozen=True)
class Box:
    """Registered nowhere."""

    size: Any = 1
    kind: Any = 0


@dataclass(frozen=True)
class Tower:
    """As well."""

    boxes: Any = ()


def weight(spec: Tower) -> float:
    return float(sum(box.size for box in spec.boxes))


def moment(spec: Tower) -> float:
    return float(sum((i + 1) * box.size for i, box in enumerate(spec.boxes)))


def product(spec: Tower) -> float:
    return float(prod(box.size for box in spec.boxes))


def jumps(spec: Tower) -> float:
    """No sum over the boxes."""
    return float(sum(abs(first.size - second.size) for first, second in pairwise(spec.boxes)))


def beauty(spec: Tower) -> float:
    return float(sum(box.size**0.5 * (1 + box.kind) for box in spec.boxes))


def wide(spec: Decoder) -> float:
    return float(sum(layer.channel_mixer.expansion for layer in spec.layers))  # type: ignore[union-attr]


TOWERS = Space(
    Tower(tuple(Box(one_of(1, 2, 3, 4, 5, 6, 7, 8), one_of(0, 1)) for _ in range(16))), name="towers"
)
LAYER = Layer(
    sequence_mixer=one_of(Attention(num_heads=2, head_dim=8, num_kv_heads=one_of(1, 2)), RGLRU()),
    channel_mixer=SwiGLU(expansion=one_of(1, 2, 3, 4)),
)
NETS = Space(Decoder(d_model=one_of(32, 48), layers=(LAYER,) * 12), name="nets")
DEEP = Space(Decoder(d_model=one_of(32, 48), layers=(LAYER,) * 18), name="deep")


class Case(NamedTuple):
    """A space, constraints, and how rare it is that they are kept (as a power of two, counted exactly)."""

    space: Space
    constraints: tuple[str, ...]
    goals: tuple[str, str] = ("beauty", "moment")
    settings: tuple[tuple[str, Any], ...] = ()


CASES = {
    "a sum, 2^-18.9": Case(TOWERS, ("weight<=32",)),
    "a product": Case(TOWERS, ("product<2e4",)),
    "no sum, 2^-18.3": Case(TOWERS, ("jumps<=10",)),
    "two equalities, 2^-16.4": Case(TOWERS, ("weight<=90", "weight>=90", "moment<=840", "moment>=840")),
    "params, 2^-19": Case(NETS, ("params<=97.1e3",), ("wide", "params")),
    "params and state, 2^-17.5": Case(
        NETS,
        ("params<=202016", "params>=202016", "state_bytes<=120320", "state_bytes>=120320"),
        ("wide", "params"),
    ),
    "decode_ms, 2^-18": Case(DEEP, ("decode_ms<1.79",), ("wide", "params"), (("roofline", "xeon-1-thread"),)),
}
QUICK = [("a sum, 2^-18.9", name) for name in every_strategy.QUICK]
QUICK += [("params, 2^-19", "random")]
"""Seconds; a Gaussian process of Optuna alone takes longer."""


SPREAD = {"random": 0.25, "local": 0.02}
"""The least mean share of differing answers; neighbours differ in one."""


@pytest.fixture(autouse=True)
def _declared() -> Iterator[None]:
    """The functions of this file are objectives while a test runs."""
    assert "params" in objectives
    things, added_by = dict(objectives._things), dict(objectives._added_by)
    for function in (weight, moment, product, jumps):
        nas.objective(function, cheap=True)
    for function in (beauty, wide):
        nas.objective(function, maximise=True)
    yield
    objectives._things, objectives._added_by = things, added_by


def searched(case: Case, strategy: str, folder: Path, trials: int) -> list[Trial]:
    study = nas.search(
        case.space,
        name="rare",
        objectives=case.goals,
        constraints=case.constraints,
        strategy=strategy,
        trials=trials,
        finalists=0,
        store=folder / "s.db",
        progress=False,
        **dict(case.settings),
    )
    found = study.trials()
    study.store.close()
    return found


def apart(trials: list[Trial]) -> float:
    """The mean share of answers in which two architectures differ."""
    genes = [trial.genotype.genes for trial in trials]
    shares = [
        sum(a.get(path) != b.get(path) for path in a.keys() | b.keys()) / len(a.keys() | b.keys())
        for a, b in combinations(genes, 2)
    ]
    return sum(shares) / len(shares)


def check(case: Case, strategy: str, folder: Path, *, trials: int, spread: float) -> None:
    found = searched(case, strategy, folder, trials)
    scored = [trial for trial in found if trial.state is TrialState.COMPLETE]
    assert len(scored) == trials
    assert len({trial.digest for trial in scored}) >= 0.6 * trials
    assert apart(scored) >= spread
    assert any(MOVED in trial.memo for trial in scored)
    again = searched(case, strategy, folder, trials + 2)
    assert again[: len(found)] == found
    assert again[-1].state is TrialState.COMPLETE


@pytest.mark.parametrize(("name", "strategy"), QUICK)
def test_every_strategy_proposes_many_where_hardly_any_is_allowed(
    name: str, strategy: str, tmp_path: Path
) -> None:
    check(CASES[name], strategy, tmp_path, trials=12, spread=SPREAD.get(strategy, 0.05))


@pytest.mark.slow
@pytest.mark.parametrize("strategy", sorted(strategies))
@pytest.mark.parametrize("name", CASES)
def test_every_strategy_meets_every_kind_of_rare_constraint(name: str, strategy: str, tmp_path: Path) -> None:
    check(CASES[name], strategy, tmp_path, trials=50, spread=min(0.1, SPREAD.get(strategy, 0.05)))


@pytest.mark.parametrize(
    ("name", "constraint", "says"),
    [
        ("a sum, 2^-18.9", "weight<16", "weight<16: the smallest network .* has 16"),
        ("params, 2^-19", "params<64288", "params<64288: the smallest network of this space has 64,288"),
    ],
)
def test_what_is_impossible_is_still_refused_with_the_nearest(
    name: str, constraint: str, says: str, tmp_path: Path
) -> None:
    case = CASES[name]._replace(constraints=(constraint,))
    with pytest.raises(SpaceError, match=says):
        searched(case, "random", tmp_path, 3)


@pytest.mark.parametrize("seed", range(4))
def test_a_repair_looks_at_a_bounded_number_of_architectures(seed: int) -> None:
    sizes = [1, 1, 1, 8, 1, 8, 1, 8, 8, 8, 5, 8, 8, 8, 8, 8]
    known = TOWERS.genotype_of(Tower(tuple(map(Box, sizes))))
    start, looks = TOWERS.sample(Random(seed)), []

    def height(spec: Tower) -> tuple[float, ...]:
        looks.append(spec)
        return (abs(weight(spec) - sum(sizes)) / 90 + abs(moment(spec) - moment(TOWERS.close(known))) / 840,)

    genotype, spec = repaired(TOWERS, start, [known], height, dice=Random(1), tried={known.digest})
    assert height(spec) == (0.0,)
    assert len(looks) <= LOOKS + 1
    assert repaired(TOWERS, start, [known], height, dice=Random(1), tried={known.digest}) == (genotype, spec)
