"""Constraints are refused where nothing keeps them, and nowhere else; strategies find what keeps them."""

from __future__ import annotations

import re
from pathlib import Path
from random import Random
from typing import Any
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nas
from foundation.errors import SettingError, SpaceError
from nas.objectives.base import CostModel, objectives
from nas.study.constraints import Constraint
from nas.study.satisfiable import find_allowed, require_satisfiable
from nas.study.trial import TrialState
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.rglru import RGLRU
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language import feasible
from search_spaces.language.choices import one_of, repeat
from search_spaces.language.genotype import Genotype
from search_spaces.language.space import Space
from search_spaces.network import priced_parts
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.least_cost import additive_costs
from search_spaces.quantization.bits import Bits
from search_spaces.scenario import Scenario
from search_spaces.spaces import spaces as ready_made
from tests.search_spaces.random_spaces import enumerated, spaces

MODEL = CostModel.of((Scenario(prompt=24, new_tokens=8),))
COSTS = ("params", "weight_bytes", "state_bytes", "decode_flops", "prefill_flops")
SIGNS = ("<", "<=", ">", ">=")
QUICK = settings(max_examples=40, deadline=None)

LAYER = Layer(sequence_mixer=RGLRU(), channel_mixer=SwiGLU(expansion=one_of(1, 2, 3, 4)))
EIGHT = Space(Decoder(d_model=32, layers=(LAYER,) * 8), name="eight")
"""65,536 networks; 205,344 parameters are the fewest, with every expansion 1."""


def value_of(name: str, spec: Decoder) -> float:
    cheap = objectives[name].cheap
    assert cheap is not None
    return cheap(spec, MODEL).value


def refusal(space: Space, *texts: str) -> str | None:
    try:
        genotype = find_allowed(space, [Constraint.parse(text) for text in texts], MODEL)
    except SpaceError as error:
        return str(error)
    spec = space.close(genotype)
    for constraint in map(Constraint.parse, texts):
        assert constraint.excess(value_of(constraint.name, spec)) == 0
    return None


@QUICK
@given(
    spaces(),
    st.lists(
        st.tuples(st.sampled_from(COSTS), st.sampled_from(SIGNS), st.integers(0, 10**6)),
        min_size=1,
        max_size=3,
    ),
    st.integers(1, 5),
)
def test_refused_if_and_only_if_nothing_keeps_them(
    space: Space, drawn: list[tuple[str, str, int]], rare: int
) -> None:
    """Bounds are values that some networks have, so that some are kept by few, or by none."""
    space = Space(
        space.root, constraints=[lambda spec: crc32(repr(spec).encode()) % rare == 0], name="random"
    )
    every = [spec for _, spec in enumerated(space) if not space.cannot_be(spec)]
    allowed = [spec for spec in every if not space.objection(spec)]
    constraints = []
    for name, sign, place in drawn:
        values = sorted(value_of(name, spec) for spec in every) or [1.0]
        constraints.append(Constraint(name, sign, values[place % len(values)]))
    kept = [s for s in allowed if all(c.excess(value_of(c.name, s)) == 0 for c in constraints)]
    if kept:
        assert space.close(find_allowed(space, constraints, MODEL)) in kept
    else:
        with pytest.raises(SpaceError):
            find_allowed(space, constraints, MODEL)


@QUICK
@given(spaces(), st.sampled_from(COSTS), st.sampled_from([1.0, -1.0]))
def test_the_least_of_a_sum_is_that_of_all_networks(space: Space, name: str, sign: float) -> None:
    found = additive_costs(space, [objectives[name].of_networks(MODEL)])
    values = [sign * value_of(name, spec) for _, spec in enumerated(space) if not space.cannot_be(spec)]
    least = found.least([sign]) if found else None
    if least is not None and values:
        assert least.amount <= min(values)
        spec = space.draw_genotype(least.genotype)
        if not space.cannot_be(spec):
            assert least.amount == min(values) == sign * value_of(name, spec)


@pytest.mark.parametrize("text", ["params<209e3", "params<205345", "params<=205344", "params>=279072"])
def test_what_one_network_of_many_keeps_is_found(text: str) -> None:
    assert refusal(EIGHT, text) is None


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        (["params<1e3"], "params<1000: the smallest network of this space has 205,344"),
        (["params<205344"], "params<205344: the smallest network of this space has 205,344"),
        (["params>279072"], "params>279072: the largest network of this space has 279,072"),
        (
            ["weight_bytes<1", "params<209e3"],
            "weight_bytes<1: the smallest network of this space has .* bytes",
        ),
        (
            ["params<=205344", "weight_bytes>500e3"],
            "no network of this space keeps params<=205344 and weight_bytes>500000 together; that with",
        ),
    ],
)
def test_a_refusal_names_the_least_value_that_there_is(texts: list[str], says: str) -> None:

    assert re.match(says, refusal(EIGHT, *texts) or "")


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        (["decode_ms<0"], "decode_ms<0: it is never below 0"),
        (["prefill_ms<=0"], "prefill_ms<=0: nothing takes no time"),
        (["decode_ms<5", "decode_ms>5"], "decode_ms>5 and decode_ms<5 exclude each other"),
        (["decode_ms<=5", "decode_ms>=6"], "decode_ms>=6 and decode_ms<=5 exclude each other"),
        (["params<-1"], "params<-1: it is never below 0"),
    ],
)
def test_what_no_number_keeps_is_refused_before_anything_is_measured(texts: list[str], says: str) -> None:
    with pytest.raises(SpaceError) as error:
        require_satisfiable(ready_made["laptop"](), list(map(Constraint.parse, texts)), MODEL)
    assert str(error.value) == says


def test_bounds_that_exclude_each_other_are_refused_by_a_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each bound alone is kept by many; together no search for one is begun."""
    monkeypatch.setattr(feasible._Looking, "descend", None)
    said = refusal(EIGHT, "params<230000", "prefill_flops>11300000")
    assert said is not None
    assert re.match(
        r"no network of this space keeps .* together; that with the least of all has params [\d,]+ and", said
    )


def test_bounds_that_touch_may_be_kept() -> None:
    require_satisfiable(
        ready_made["laptop"](), list(map(Constraint.parse, ["decode_ms<=5", "decode_ms>=5"])), MODEL
    )


@pytest.mark.parametrize("bound", ["1e999", "-1e999"])
def test_a_bound_is_a_finite_number(bound: str) -> None:
    with pytest.raises(SettingError, match="finite"):
        Constraint.parse(f"params<{bound}")


ONLY = [3, 1, 4, 1, 2, 2, 3, 4]


def only(spec: Decoder) -> bool:
    return [layer.channel_mixer.expansion for layer in spec.layers] == ONLY  # type: ignore[union-attr]


def test_a_rule_in_code_that_one_of_65536_keeps_is_found_once() -> None:
    space = Space(EIGHT.root, constraints=[only], name="only")
    first, second = (space.close(space.sample(Random(seed))) for seed in range(2))
    assert first == second
    assert only(first)


@pytest.mark.parametrize("strategy", ["random", "nsga2", "auto"])
@pytest.mark.parametrize("seed", [0, 7])
def test_a_strategy_is_moved_to_what_keeps_the_constraints(strategy: str, seed: int, tmp_path: Path) -> None:
    def depth(spec: Decoder) -> float:
        return float(sum(layer.channel_mixer.expansion for layer in spec.layers))  # type: ignore[union-attr]

    def searched(name: str, trials: int) -> list[Any]:
        study = nas.search(
            EIGHT,
            name=name,
            objectives=[depth],
            constraints=["params<213e3"],
            strategy=strategy,
            seed=seed,
            trials=trials,
            finalists=0,
            store=tmp_path / "s.db",
        )
        return study.trials()

    trials = searched("whole", 12)
    complete = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    assert len(complete) == 12
    assert len(trials) <= 12 * 11
    assert len({trial.digest for trial in complete}) >= 4, "not one and the same again and again"
    searched("parts", 5)
    continued = searched("parts", 12)
    assert [(t.genotype, t.values, t.memo) for t in continued] == [
        (t.genotype, t.values, t.memo) for t in trials
    ]


def test_moved_proposals_lose_no_gene(tmp_path: Path) -> None:
    from nas.strategies.base import make_strategy
    from nas.strategies.genetic import SILENT

    space = ready_made["laptop"]()
    strategy = make_strategy("nsga2", space, [("params", False)], seed=0, settings={})
    proposal, goal = strategy.ask(0), space.sample(Random(5))
    moved = strategy.moved(proposal, goal, space.close(goal))
    assert {**moved.memo[SILENT], **moved.genotype.genes}.keys() == {gene.path for gene in space.genes}


def test_the_least_and_the_most_of_a_cost_are_exact() -> None:

    found = additive_costs(EIGHT, [objectives["params"].of_networks(MODEL)])
    assert found is not None
    least, most = found.least([1.0]), found.least([-1.0])
    assert least is not None
    assert most is not None
    assert (least.amount, -most.amount) == (205_344, 279_072)
    assert isinstance(least.genotype, Genotype)


def test_a_rule_in_code_that_nothing_keeps_is_refused_before_anything_is_stored(tmp_path: Path) -> None:
    space = Space(Decoder(d_model=one_of(16, 32), layers=(LAYER,)), constraints=[lambda spec: False])
    with pytest.raises(SpaceError, match="none of its 8 architectures is allowed; the nearest: violates the"):
        nas.search(space, name="s", objectives=["params"], store=tmp_path / "s.db")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("params<10", "params<10: the smallest network of this space has 37,056"),
        ("params>1e9", "the largest network of this space has 10,506,368"),
        ("weight_bytes<10", "weight_bytes<10: the smallest network of this space has 39,488 bytes"),
        ("state_bytes<=10", "state_bytes<=10: the smallest network of this space has 128 bytes"),
        ("peak_bytes<10", "peak_bytes<10: the weight_bytes alone are at least 39,488 in every network"),
    ],
)
def test_the_least_of_the_large_space_whose_layers_share_weights_is_known(text: str, says: str) -> None:
    assert says in (refusal(ready_made["hybrid_lm"](), text) or "")


@pytest.mark.parametrize("name", ["params", "weight_bytes", "state_bytes"])
def test_values_of_one_effect_are_taken_for_one_where_there_are_many(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixer = one_of(RGLRU(), Attention(head_dim=8))
    bits = Bits(weight=one_of(16, 8, 4), activation=one_of(16, 8), state=one_of(16, 8))
    layer = Layer(sequence_mixer=mixer, channel_mixer=one_of(None, SwiGLU(expansion=2)), bits=bits)
    shared = Layer(sequence_mixer=Attention(head_dim=16), shared="a")
    stack = repeat(one_of(layer, shared), depths=(1, 3))
    space = Space(Decoder(d_model=one_of(16, 32), layers=stack))
    total = objectives[name].of_networks(MODEL)
    exact = additive_costs(space, [total])
    monkeypatch.setattr(priced_parts, "MOST_PARTS", 80)
    merged = additive_costs(space, [total])
    assert exact is not None
    assert merged is not None
    assert len(merged.parts.priced) < len(exact.parts.priced)
    for sign in (1.0, -1.0):
        least, same = exact.least([sign]), merged.least([sign])
        assert least is not None
        assert same is not None
        assert least.amount == same.amount
        assert sign * value_of(name, space.draw_genotype(least.genotype)) == least.amount
