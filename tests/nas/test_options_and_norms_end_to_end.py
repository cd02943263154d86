"""Every option of a layer with every norm from a space to the exact choice, read from one supernet."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from random import Random
from typing import Any

import pytest
import torch

from evaluators.blockwise.additive_part import additive_part
from evaluators.blockwise.replacement import Replacements
from evaluators.tasks.base import Task
from foundation.errors import SpaceError
from nas.engines.exact.tables import ScoredSpace, scored_space
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.choices import one_of, repeat
from search_spaces.language.space import Space
from search_spaces.network.additive_cost import Total
from search_spaces.network.decoder import OPTIONS, Decoder, Layer
from search_spaces.network.norms.base import Norm
from search_spaces.scenario import Scenario
from search_spaces.supernet import Supernet
from tests.evaluators import tiny
from tests.search_spaces.networks import ABSENT, NORMS, OPTION_VALUES, randomised

SCENARIO = Scenario(prompt=12, new_tokens=4)
MIXER = Attention(num_heads=2, num_kv_heads=2, head_dim=8)
CHANNELS = SwiGLU(expansion=1)
CASES = pytest.mark.parametrize(
    ("name", "value", "norm"),
    [
        pytest.param(name, value, norm, id=f"{name}-{type(norm).__name__}")
        for name, value in OPTION_VALUES
        for norm in NORMS
    ],
)


def counted(name: str, specs: Sequence[Decoder]) -> list[float]:
    return [float(getattr(spec.cost(SCENARIO), name)) for spec in specs]


TOTALS: dict[str, Total] = {name: partial(counted, name) for name in ("weight_bytes", "state_bytes")}


def space_of(norm: Norm, **options: Any) -> Space:
    mixer = Attention(num_heads=2, num_kv_heads=one_of(1, 2), head_dim=8)
    layer = Layer(sequence_mixer=mixer, channel_mixer=one_of(None, CHANNELS), **options)
    stack = repeat(layer, depths=(1, 2))
    return Space(Decoder(d_model=one_of(8, 16), layers=stack, norm=norm), name="options")


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    return tiny.task(tmp_path_factory.mktemp("text"), length=13, windows=3)


def chosen_from(space: Space, norm: Norm, task: Task) -> tuple[Supernet, ScoredSpace]:
    """The choice over the additive part of a space, with scores and costs from one supernet."""
    supernet = randomised(space)
    layer = Layer(sequence_mixer=MIXER, channel_mixer=CHANNELS)
    parent = Decoder(d_model=16, layers=(layer, layer), norm=norm)
    replacements = Replacements(supernet, parent, task)
    scores = {replacement: replacements.score(replacement) for replacement in replacements.wanted()}
    return supernet, scored_space(additive_part(space), parent, scores, TOTALS)


@CASES
def test_the_exact_choice_is_the_best_network_and_runs_from_the_supernet(
    name: str, value: Any, norm: Norm, task: Task
) -> None:
    space = space_of(norm, **{name: one_of(ABSENT[name], value)})
    supernet, net = chosen_from(space, norm, task)
    scored = {spec: net.predicted(spec) for spec in map(net.space.close, net.space.enumerate())}
    best = net.problem.best({})
    spec = net.spec(best)
    assert best.score == pytest.approx(min(scored.values()), abs=1e-6)
    assert scored[spec] == pytest.approx(best.score, abs=1e-6)
    assert space.contains(spec)
    assert any(name in layer.options for s in scored for layer in s.layers) == (
        not OPTIONS[name].not_additive
    )
    tokens = task.validation()[0]
    with torch.no_grad():
        assert torch.equal(supernet.subnet(spec)(tokens), supernet.subnet(spec).extract()(tokens))


@CASES
def test_the_costs_of_the_tables_are_those_of_whole_networks(
    name: str, value: Any, norm: Norm, task: Task
) -> None:
    space = space_of(norm, **{name: one_of(ABSENT[name], value)})
    _, net = chosen_from(space, norm, task)
    dice = Random(1)
    for spec in (net.space.close(net.space.sample(dice)) for _ in range(12)):
        for cost, total in TOTALS.items():
            assert net.added(spec, cost) == pytest.approx(total([spec])[0]), str(spec)


@CASES
def test_a_budget_holds_for_the_network_that_is_chosen_under_it(
    name: str, value: Any, norm: Norm, task: Task
) -> None:
    space = space_of(norm, **{name: one_of(ABSENT[name], value)})
    _, net = chosen_from(space, norm, task)
    specs = [net.space.close(genotype) for genotype in net.space.enumerate()]
    bound = sorted(counted("weight_bytes", specs))[len(specs) // 3]
    best = net.problem.best({"weight_bytes": bound})
    (spent,) = counted("weight_bytes", [net.spec(best)])
    assert spent <= bound
    allowed = [spec for spec in specs if counted("weight_bytes", [spec])[0] <= bound]
    assert best.score == pytest.approx(min(map(net.predicted, allowed)), abs=1e-6)


@CASES
def test_a_space_in_which_every_layer_has_it_has_a_choice_or_a_reason(
    name: str, value: Any, norm: Norm, task: Task
) -> None:
    space, reason = space_of(norm, **{name: value}), OPTIONS[name].not_additive
    if not reason:
        assert additive_part(space) is space
        return
    with pytest.raises(SpaceError) as error:
        additive_part(space)
    message = f"layers.0.{name}: a layer that {reason} cannot be scored by its sublayers"
    assert str(error.value) == message
