"""From a space to tables and back: the exact choice against the enumeration of a whole space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from random import Random

import pytest

import nas.engines.exact.integer_program as choice_module
from evaluators.blockwise.replacement_scores import LayerRemoved, Moved, Replacement, Width, canonical
from foundation.errors import SpaceError
from nas.engines.exact.contents import slots_of
from nas.engines.exact.integer_program import Unreachable, Unsolved
from nas.engines.exact.sweep import sweep
from nas.engines.exact.tables import ScoredSpace, deviation, random_networks, scored_space
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.gelu_mlp import MLP
from search_spaces.blocks.short_conv import ShortConv
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.choices import one_of, repeat
from search_spaces.language.space import Space
from search_spaces.network.additive_cost import Total
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.norms.rms_norm import RMSNorm
from search_spaces.network.options.early_exit import EarlyExit
from search_spaces.network.sublayers import Sublayer, sublayers_in
from search_spaces.quantization.bits import Bits
from search_spaces.scenario import Scenario

SCENARIO = Scenario(prompt=32, new_tokens=8)


def counted(name: str, specs: Sequence[Decoder]) -> list[float]:
    return [float(getattr(spec.cost(SCENARIO), name)) for spec in specs]


TOTALS: dict[str, Total] = {name: partial(counted, name) for name in ("weight_bytes", "state_bytes")}


def open_layer(**more: object) -> Layer:
    return Layer(
        sequence_mixer=one_of(Attention(num_heads=2, num_kv_heads=one_of(1, 2), head_dim=8), ShortConv()),
        channel_mixer=one_of(SwiGLU(expansion=1), None),
        bits=Bits(weight=one_of(4, 16), state=one_of(8, 16)),
        **more,
    )


def parent_of(depth: int = 2) -> Decoder:
    layer = Layer(
        sequence_mixer=Attention(num_heads=2, num_kv_heads=2, head_dim=8), channel_mixer=SwiGLU(expansion=1)
    )
    return Decoder(vocab=32, d_model=24, layers=(layer,) * depth)


def space_of(*, depths: tuple[int, ...] = (1, 2), **more: object) -> Space:
    return Space(
        Decoder(vocab=32, d_model=one_of(16, 24), layers=repeat(open_layer(**more), depths)), name="small"
    )


def scores_of(space: Space, depth: int, seed: int = 0) -> dict[Replacement, Moved]:
    """Random scores for everything."""
    dice = Random(seed)
    everything: list[Replacement] = [Width(d) for d in (16, 24)]
    everything += dict.fromkeys(map(canonical, sublayers_in(space)))
    everything += [LayerRemoved(i, d) for i in range(depth) for d in (16, 24)]
    return {replacement: Moved(dice.gauss(0.5, 0.4), 0.01) for replacement in everything}


def mixer_of(replacement: Replacement) -> object:
    """The block of a sublayer; None of all else."""
    return replacement.block if isinstance(replacement, Sublayer) else None


def made(space: Space, seed: int = 0, **more: object) -> ScoredSpace:
    return scored_space(space, parent_of(), scores_of(space, 2, seed), TOTALS, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(4))
def test_the_choice_is_the_best_of_all_networks_of_the_space(seed: int) -> None:
    space = space_of()
    net = made(space, seed)
    everything = []
    for genotype in space.enumerate():
        spec = space.close(genotype)
        costs = {name: total([spec])[0] for name, total in TOTALS.items()}
        everything.append((net.predicted(spec), costs, genotype))
    everything.sort(key=lambda entry: entry[0])
    middle = {name: sorted(costs[name] for _, costs, _ in everything)[300] for name in TOTALS}
    for budgets in ({}, {"weight_bytes": middle["weight_bytes"]}, middle):
        best = next(e for e in everything if all(e[1][name] <= bound for name, bound in budgets.items()))
        found = net.problem.best(budgets)
        assert found.score == pytest.approx(best[0], abs=1e-9)
        assert net.predicted(net.spec(found)) == pytest.approx(found.score, abs=1e-9)
        assert net.genotype(found) == best[2]
        for name, amount in found.costs.items():
            assert amount == pytest.approx(TOTALS[name]([net.spec(found)])[0])


def test_the_next_best_are_the_next_best_networks() -> None:
    space = space_of()
    net = made(space, 7)
    ranked = sorted(net.predicted(space.close(genotype)) for genotype in space.enumerate())
    found = net.problem.best_few(12)
    assert [one.score for one in found] == pytest.approx(ranked[:12], abs=1e-9)
    assert len({net.genotype(one).digest for one in found}) == 12


def test_constraints_of_the_space_and_of_the_caller_are_kept() -> None:
    def an_attention(spec: Decoder) -> bool:
        return any(isinstance(layer.sequence_mixer, Attention) for layer in spec.layers)

    space = Space(space_of().root, constraints=[an_attention])
    scores = {
        one: replace(moved, kl=moved.kl + isinstance(mixer_of(one), Attention))
        for one, moved in scores_of(space, 2).items()
    }
    net = scored_space(space, parent_of(), scores, TOTALS, allows=lambda spec: len(spec.layers) == 2)
    found = net.spec(net.problem.best())
    assert an_attention(found)
    assert len(found.layers) == 2
    allowed = [
        net.predicted(spec)
        for genotype in space.enumerate()
        if space.objection(spec := space.draw(lambda path, _, g=genotype: g.genes[path])[1]) is None
        and len(spec.layers) == 2
    ]
    assert net.predicted(found) == pytest.approx(min(allowed))


def test_costs_add_up_and_those_that_do_not_are_told() -> None:
    def deepest(specs: Sequence[Decoder]) -> list[float]:
        return [1.0 + max((c for (c,) in [(len(spec.layers) ** 2,)]), default=0) for spec in specs]

    space = space_of()
    totals = {**TOTALS, "deepest": deepest}
    net = scored_space(space, parent_of(), scores_of(space, 2), totals)
    found = deviation(net, totals)
    assert found["weight_bytes"] < 1e-12
    assert found["state_bytes"] < 1e-12
    assert found["deepest"] > 0.3


def test_random_networks_are_distinct_and_can_be_predicted() -> None:
    net = made(space_of())
    found = random_networks(net, 20, seed=3)
    assert len(set(found)) == 20
    assert found == random_networks(net, 20, seed=3)
    assert all(net.space.contains(spec) for spec in found)


def test_layers_with_exits_are_left_out_and_what_was_not_scored_too() -> None:
    space = space_of(exit=one_of(None, EarlyExit(threshold=0.3)))
    scores = {h: m for h, m in scores_of(space, 2).items() if not isinstance(mixer_of(h), ShortConv)}
    net = scored_space(space, parent_of(), scores, TOTALS)
    for one in net.problem.best_few(5):
        spec = net.spec(one)
        assert all(layer.exit is None for layer in spec.layers)
        assert all(isinstance(layer.sequence_mixer, Attention) for layer in spec.layers)
        assert net.genotype(one)
    outsider = replace(parent_of(), layers=(Layer(sequence_mixer=ShortConv()),))
    with pytest.raises(SpaceError, match="was not scored"):
        net.predicted(outsider)
    with pytest.raises(SpaceError, match=r"nothing that may stand at layers\.0\.sequence_mixer"):
        scored_space(space, parent_of(), {h: m for h, m in scores.items() if mixer_of(h) is None}, TOTALS)


def test_the_parent_must_be_as_deep_as_the_space() -> None:
    space = space_of(depths=(1, 2, 3))
    with pytest.raises(SpaceError, match="deeper than the 2 layers"):
        scored_space(space, parent_of(2), scores_of(space, 3), TOTALS)


def test_stacks_and_layers_of_other_kinds_are_tied_too() -> None:
    small = Layer(sequence_mixer=ShortConv(), channel_mixer=MLP(expansion=1))
    large = Layer(sequence_mixer=Attention(num_heads=2, num_kv_heads=2, head_dim=8))
    space = Space(
        Decoder(
            vocab=32,
            d_model=one_of(16, 24),
            layers=one_of((small,), (large, one_of(small, large)), (large, large, small)),
        )
    )
    parent = Decoder(vocab=32, d_model=24, layers=(large, large, small))
    net = scored_space(space, parent, scores_of(space, 3), TOTALS)
    ranked = sorted(net.predicted(space.close(genotype)) for genotype in space.enumerate())
    assert len(ranked) == 8
    found = net.problem.best_few(20)
    assert [one.score for one in found] == pytest.approx(ranked[:20], abs=1e-9)
    assert {net.genotype(one) for one in found} == set(space.enumerate())


def test_one_choice_for_all_layers_is_made_once() -> None:
    mixer = one_of(Attention(num_heads=2, num_kv_heads=2, head_dim=8), ShortConv(), name="mixer")
    bits = Bits(weight=one_of(4, 16, name="weight"), state=one_of(8, 16))
    layer = Layer(sequence_mixer=mixer, channel_mixer=one_of(SwiGLU(expansion=1), None), bits=bits)
    space = Space(Decoder(vocab=32, d_model=one_of(16, 24), layers=(layer, layer)), name="shared")
    net = scored_space(space, parent_of(), scores_of(space, 2), TOTALS)
    ranked = sorted(net.predicted(space.close(genotype)) for genotype in space.enumerate())
    assert len(ranked) == 2 * 2 * 2 * 2**2 * 2**2
    found = net.problem.best_few(20)
    assert [one.score for one in found] == pytest.approx(ranked[:20], abs=1e-9)


def test_both_halves_of_a_layer_choose_their_bits() -> None:
    own, channel = Bits(weight=one_of(4, 16), state=one_of(8, 16)), Bits(weight=one_of(4, 16))
    layer = Layer(sequence_mixer=ShortConv(), channel_mixer=SwiGLU(), bits=own, channel_bits=channel)
    space = Space(Decoder(vocab=32, d_model=24, layers=(layer, layer)), name="halves")
    net = scored_space(space, parent_of(), scores_of(space, 2), TOTALS)
    everything = {genotype: net.predicted(space.close(genotype)) for genotype in space.enumerate()}
    assert len(everything) == (4 * 2) ** 2
    found = net.problem.best_few(20)
    assert [one.score for one in found] == pytest.approx(sorted(everything.values())[:20], abs=1e-9)
    assert [everything[net.genotype(one)] for one in found] == pytest.approx([one.score for one in found])
    assert any(net.spec(one).layers[0].channel_bits is not None for one in found)


def test_a_sweep_over_a_space_meets_its_bounds() -> None:
    net = made(space_of(), 2)
    bound = net.problem.least("state_bytes").costs["state_bytes"] * 2 + 100
    for one in sweep(net.problem, ["weight_bytes"], points=10, budgets={"state_bytes": bound}):
        assert counted("state_bytes", [net.spec(one)])[0] <= bound
    with pytest.raises(Unreachable, match="weight_bytes is at least"):
        net.problem.best({"weight_bytes": 10.0})


def test_what_forbids_everything_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice_module, "MAX_REJECTED", 5)
    net = made(space_of(), allows=lambda spec: False)
    with pytest.raises(Unsolved, match="forbidden"):
        net.problem.best()


def test_the_norm_of_the_parent_stays() -> None:
    space = space_of()
    root = replace(space.root, norm=one_of(RMSNorm(), RMSNorm(epsilon=1e-3)))
    parent = replace(parent_of(), norm=RMSNorm(epsilon=1e-3))
    slots = slots_of(Space(root), parent)
    contents = [content for slot in slots.values() for content in slot]
    sublayers = [content for content in contents if isinstance(content, Sublayer) and content.block]
    assert {sublayer.norm for sublayer in sublayers} == {parent.norm}
    conditions = [condition for slot in slots.values() for each in slot.values() for condition in each]
    assert {condition["norm"] for condition in conditions} == {frozenset((1,))}
