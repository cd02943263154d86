"""The searches on logits: they resume, meet targets, choose what they say, and admit a collapse."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from pathlib import Path
from random import Random

import pytest
import torch
from torch import Tensor

from evaluators.differentiable.answers import answered, likelihood
from evaluators.differentiable.collapse import BACK, EmptyPlaces, Finding, Reading, alarm, degenerate
from evaluators.differentiable.data_split import DataSplit
from evaluators.differentiable.discretization import by_magnitude, by_perturbation, decided_by_score
from evaluators.differentiable.expected_cost import expected_cost
from evaluators.differentiable.lagrangian import Pull
from evaluators.differentiable.outcome import choose
from evaluators.differentiable.repair import Target, repaired
from evaluators.differentiable.search import DifferentiableSearch
from evaluators.differentiable.settings import VARIANTS, SearchSettings
from evaluators.scoring.base import Score
from evaluators.tasks.recall import Recall
from evaluators.training.fit import fit
from foundation.errors import EvaluationFailed, SettingError, SpaceError
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.short_conv import ShortConv
from search_spaces.blocks.skip import Skip
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.choices import one_of, repeat
from search_spaces.language.space import Space
from search_spaces.mixture.conditions import Genes
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.quantization.bits import Bits
from search_spaces.scenario import Scenario
from search_spaces.supernet import Supernet

TASK = Recall(tokens=12, length=9, pairs=2, sequences=300, windows=8)


def small(constraints: Sequence[object] = ()) -> Space:
    layer = Layer(
        sequence_mixer=one_of(
            ShortConv(kernel=one_of(2, 3)), Attention(num_heads=1, num_kv_heads=1, head_dim=4), Skip()
        ),
        channel_mixer=one_of(SwiGLU(expansion=one_of(1, 2, 3)), None),
        bits=Bits(weight=one_of(16, 4), state=one_of(16, 8)),
    )
    decoder = Decoder(vocab=12, d_model=one_of(8, 12), layers=repeat(layer, depths=(1, 2)))
    return Space(decoder, constraints=constraints)  # type: ignore[arg-type]


def bytes_of(specs: Sequence[Decoder]) -> list[float]:
    return [float(spec.cost(Scenario()).weight_bytes) for spec in specs]


def searching(variant: str = "modern", *, seed: int = 0, **more: object) -> DifferentiableSearch:
    given: dict[str, object] = {"steps": 6, "batch": 4, "watch_every": 2, "watch_batches": 1, "guard": False}
    chosen = SearchSettings(variant=variant, **(given | more))  # type: ignore[arg-type]
    return DifferentiableSearch(Supernet(small(), seed=seed), TASK, chosen, seed=seed)


class Killed(Exception):
    """Stands for a lost process."""


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_killed_search_goes_on_to_the_same_end(variant: str, tmp_path: Path) -> None:
    whole = searching(variant)
    fit(whole)

    def die(step: int, loss: float) -> None:
        if step == 5:
            raise Killed

    with pytest.raises(Killed):
        fit(searching(variant), folder=tmp_path, on_step=die, save_seconds=0.0)
    again, seen = searching(variant), list[int]()
    fit(again, folder=tmp_path, on_step=lambda step, loss: seen.append(step))
    assert seen == [5, 6]  # the checkpoint of step 4 was taken up
    assert torch.equal(again.logits, whole.logits)
    assert all(torch.equal(again.parameters[name], w) for name, w in whole.parameters.items())
    pairs = zip(again.readings, whole.readings, strict=True)
    assert all((a.step, a.eigenvalue, a.empty) == (b.step, b.eigenvalue, b.empty) for a, b in pairs)
    assert all(torch.equal(a.logits, b.logits) for a, b in zip(again.readings, whole.readings, strict=True))
    assert choose(again)[0].genotype == choose(whole)[0].genotype
    other = searching(variant, seed=1)
    fit(other, folder=tmp_path)
    assert not torch.equal(other.logits, whole.logits)  # another seed took up nothing


@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_move_and_the_supernet_stays(variant: str) -> None:
    search = searching(variant)
    before = {name: weight.detach().clone() for name, weight in search.supernet.weights.items()}
    fit(search)
    assert bool(search.logits.any())
    assert all(torch.equal(search.supernet.weights[name], before[name]) for name in before)
    moved = [name for name, weight in search.parameters.items() if not torch.equal(weight, before[name])]
    assert bool(moved) == (variant != "modern")


def test_the_second_order_is_another_gradient_than_the_first() -> None:
    first, second = searching("first", steps=1), searching("second", steps=1, unroll=0.5)
    for search in (first, second):
        fit(search)
    one, other = first.logits.grad, second.logits.grad
    assert one is not None
    assert other is not None
    assert not torch.allclose(one, other, rtol=1e-3)
    nearly = searching("second", steps=1, unroll=1e-6)
    fit(nearly)
    torch.testing.assert_close(nearly.logits.grad, one, rtol=1e-3, atol=1e-6)


def test_searching_lowers_the_loss() -> None:
    search = searching("first", steps=60, batch=16, watch_every=0)
    start = search.validation_loss(search.shares)
    fit(search)
    assert search.validation_loss(search.shares) < start - 0.1


def test_a_broken_loss_is_an_outcome() -> None:
    search = searching("first")
    with torch.no_grad():
        search.parameters["norm"].fill_(float("nan"))
    with pytest.raises(EvaluationFailed, match="step 1"):
        fit(search)


def test_warming_up_leaves_the_logits_alone() -> None:
    search = searching("first", warm_up=3)
    for _ in range(3):
        search.learn()
    assert not bool(search.logits.any())
    search.learn()
    assert bool(search.logits.any())


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"variant": "third"}, "variant must be one of"),
        ({"steps": 0}, "steps"),
        ({"steps": 5, "warm_up": 5}, "warm_up"),
        ({"rate": 0.0}, "rate"),
        ({"cold": float("inf")}, "cold"),
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, object], told: str) -> None:
    with pytest.raises(SettingError, match=told):
        SearchSettings(**wrong)  # type: ignore[arg-type]
    with pytest.raises(SettingError, match="target x"):
        Target("x", -1.0, bytes_of)


def test_split_share_no_sequence() -> None:
    split = DataSplit(TASK, seed=3, batch=8)
    one, other = set[bytes](), set[bytes]()
    for step in range(60):
        for seen, (tokens, targets) in zip((one, other), split.of_step(step), strict=True):
            assert tokens.shape == targets.shape == (8, 9)
            seen |= {row.numpy().tobytes() for row in tokens}
    assert not one & other
    assert min(len(one), len(other)) > 50
    again = DataSplit(TASK, seed=3, batch=8).of_step(7)
    assert all(torch.equal(a[0], b[0]) for a, b in zip(again, split.of_step(7), strict=True))


def test_a_task_that_cannot_be_split_says_so() -> None:
    with pytest.raises(SettingError, match="cannot be split"):
        DataSplit(Recall(tokens=12, length=9, pairs=2, sequences=1), 0, 4).of_step(0)


EVERYTHING = [(g, small().close(g)) for g in small().enumerate()]
PRICES = dict(zip([g for g, _ in EVERYTHING], bytes_of([s for _, s in EVERYTHING]), strict=True))


def test_the_repair_meets_a_target_wherever_something_does() -> None:
    space, behind = small(), list[float]()
    for seed in range(14):
        genes, dice = Genes(space), torch.Generator().manual_seed(seed)
        shares = genes.shares(2 * torch.randn(genes.size, generator=dice)).double()
        value = Random(seed).uniform(min(PRICES.values()), max(PRICES.values()))
        choice = repaired(genes, shares, [Target("bytes", value, bytes_of)], seed=seed)
        within = [g for g, price in PRICES.items() if abs(price / value - 1) <= 0.05]
        assert (choice.excess == 0) == bool(within)
        assert choice.costs["bytes"] == PRICES[choice.genotype]
        assert choice.likelihood == pytest.approx(likelihood(genes, shares, choice.genotype))
        if within:
            best = max(likelihood(genes, shares, genotype) for genotype in within)
            behind.append(best - choice.likelihood)
    # a local search: mostly the likeliest there is, sometimes one that is a few times less likely
    assert sorted(behind)[len(behind) // 2] == pytest.approx(0.0, abs=1e-9)
    assert max(behind) < 2.5


def test_magnitude_takes_the_largest_shares_that_are_allowed() -> None:
    genes = Genes(small())
    shares = genes.shares(torch.randn(genes.size, generator=torch.Generator().manual_seed(2)))
    found = by_magnitude(genes, shares)
    for path, label in found.genes.items():
        gene = genes.gene(path)
        assert label == gene.labels[int(shares[genes.slice(gene)].argmax())]

    def unlike(spec: Decoder) -> bool:
        return genes.space.genotype_of(spec) != found

    limited = Genes(small([unlike]))
    second = by_magnitude(limited, shares)
    assert second != found
    chances = {g: likelihood(genes, shares.double(), g) for g, _ in EVERYTHING if g != found}
    assert chances[second] == pytest.approx(max(chances.values()), abs=0.7)
    with pytest.raises(SpaceError, match="none of"):
        by_magnitude(Genes(small([lambda spec: False])), shares)


@pytest.mark.parametrize("seed", range(5))
def test_perturbation_keeps_what_hurts_most_when_it_is_missing(seed: int) -> None:
    genes = Genes(small())
    worth = torch.randn(genes.size, generator=torch.Generator().manual_seed(seed))
    tuned = list[Tensor]()
    answers = by_perturbation(
        genes,
        genes.shares(torch.zeros(genes.size)),
        lambda shares: float(-(shares * worth).sum()),
        seed=seed,
        tune=tuned.append,
    )
    for path, label in answers.items():
        gene = genes.gene(path)
        own = worth[genes.slice(gene)]
        # a linear loss: what hurts most when it is missing is the best there is
        assert label == gene.labels[int(own.argmax())]
    assert len(tuned) == len(answers)
    assert answered(genes, answers, torch.zeros(genes.size)).genes == answers


def test_what_the_mixture_does_not_see_is_decided_by_scores() -> None:
    space = small()
    genes = Genes(space)
    genotype = space.sample(Random(1))
    open_paths = [path for path in genotype.genes if path.endswith("bits.state")]
    assert open_paths

    def score(spec: Decoder, harm: float) -> Score:
        bad = sum(layer.bits.state == 8 for layer in spec.layers)
        return Score.of([1.0 + harm * bad, 1.1 + harm * bad, 0.9 + 1.01 * harm * bad])

    def price(spec: Decoder) -> float:
        return float(sum(layer.bits.state for layer in spec.layers))

    careful = decided_by_score(genes, genotype, genes.counts, lambda spec: score(spec, 0.0), price)
    harmed = decided_by_score(genes, genotype, open_paths, lambda spec: score(spec, 0.5), price)
    assert {careful.genes[path] for path in open_paths} == {8}  # equally good, and cheaper
    assert {harmed.genes[path] for path in open_paths} == {16}
    assert {p: v for p, v in harmed.genes.items() if p not in open_paths} == {
        p: v for p, v in genotype.genes.items() if p not in open_paths
    }


def test_a_target_is_met_by_the_expectation_and_by_the_network() -> None:
    supernet = Supernet(small())
    expected = expected_cost(supernet.space, bytes_of)
    low, high = min(PRICES.values()), max(PRICES.values())
    for share in (0.3, 0.6):
        value = low + share * (high - low)
        target = Target("bytes", value, bytes_of)
        chosen = SearchSettings(variant="modern", steps=150, batch=4, rate=0.1, watch_every=0)
        search = DifferentiableSearch(supernet, TASK, chosen, pulls=[Pull(target, expected)])
        fit(search)
        assert float(expected(search.shares)) == pytest.approx(value, rel=0.05)
        choice, findings = choose(search, [target])
        assert choice.costs["bytes"] == pytest.approx(value, rel=0.05)
        assert bytes_of([supernet.space.close(choice.genotype)]) == [choice.costs["bytes"]]
        assert not [finding for finding in findings if finding.kind == "target missed"]


def test_a_target_out_of_reach_is_admitted() -> None:
    search = searching()
    choice, findings = choose(search, [Target("bytes", 10 * max(PRICES.values()), bytes_of)])
    assert choice.costs["bytes"] == max(PRICES.values())
    assert [finding.kind for finding in findings] == ["target missed"]
    assert findings[0].to_plain()["figures"]["excess"] > 0.8


def test_empty_places_are_counted_as_they_are() -> None:
    genes = Genes(small())
    empty = EmptyPlaces(genes)
    for genotype, spec in EVERYTHING[::37]:
        bare = [isinstance(x.sequence_mixer, Skip) for x in spec.layers]
        bare += [x.channel_mixer is None for x in spec.layers]
        assert empty.of(genotype) == pytest.approx(sum(bare) / len(bare))
    shares = genes.shares(torch.randn(genes.size, dtype=torch.float64))
    flat, mean, there = shares.tolist(), 0.0, 0.0
    for genotype, spec in EVERYTHING:
        chance = prod(
            flat[genes.start[p] + genes.index(genes.gene(p), label)] for p, label in genotype.genes.items()
        )
        mean += chance * sum(
            isinstance(x.sequence_mixer, Skip) + (x.channel_mixer is None) for x in spec.layers
        )
        there += chance * 2 * len(spec.layers)
    assert empty.share(shares) == pytest.approx(mean / there)
    full = Layer(sequence_mixer=one_of(ShortConv(kernel=2), ShortConv(kernel=3)), channel_mixer=SwiGLU())
    assert not EmptyPlaces(Genes(Space(Decoder(vocab=8, d_model=8, layers=(full,)))))


def readings(eigenvalues: Sequence[float], empties: Sequence[float] | None = None) -> list[Reading]:
    empties = empties or [0.0] * len(eigenvalues)
    return [
        Reading(10 * i, 1.0, value, empty, torch.full((2,), float(i)))
        for i, (value, empty) in enumerate(zip(eigenvalues, empties, strict=True), start=1)
    ]


def test_rising_curvature_raises_the_alarm_and_goes_back() -> None:
    assert alarm(readings([1.0] * 20)) is None
    assert alarm(readings([1.0, 1.1, 0.9, 1.2, 1.0, 1.1, 0.8])) is None
    assert alarm(readings([1.0, 9.0])) is None  # too early to tell
    rising = readings([1.0, 1.0, 1.0, 1.0, 1.0, 1.5, 2.0, -2.5])  # the magnitude counts
    found = alarm(rising)
    assert found is not None
    finding, back = found
    assert (finding.kind, finding.step, back) == ("curvature", 80, len(rising) - 1 - BACK)
    assert finding.figures["ratio"] == pytest.approx(1.0 / 1.6)


def test_empty_places_raise_the_alarm_when_they_stay_empty() -> None:
    assert alarm(readings([1.0] * 3, [0.0, 0.5, 1.0])) is None
    found = alarm(readings([1.0] * 4, [0.0, 0.5, 0.75, 1.0]))
    assert found is not None
    assert (found[0].kind, found[0].step, found[1]) == ("parameter-free", 40, 1)
    assert degenerate(0.5, 3) is None
    assert degenerate(0.75, 3) == Finding("degenerate", 3, degenerate(0.75, 3).text, {"empty": 0.75})  # type: ignore[union-attr]


def collapsing(guard: bool) -> DifferentiableSearch:
    """Pulled to the cheapest network, which is nearly nothing."""
    supernet = Supernet(small())
    target = Target("bytes", min(PRICES.values()), bytes_of)
    chosen = SearchSettings(
        variant="modern", steps=60, batch=4, rate=0.2, watch_every=3, guard=guard, penalty=1e3
    )
    return DifferentiableSearch(
        supernet, TASK, chosen, pulls=[Pull(target, expected_cost(supernet.space, bytes_of))]
    )


def test_a_collapse_is_caught_and_never_hidden(tmp_path: Path) -> None:
    plain = collapsing(guard=False)
    fit(plain)
    assert plain.step == 60
    choice, findings = choose(plain)
    assert {f.kind for f in findings} >= {"parameter-free", "degenerate"}
    assert "a guard would have stopped" in next(f.text for f in findings if f.kind == "parameter-free")
    assert plain.empty.of(choice.genotype) > 0.5
    guarded = collapsing(guard=True)
    fit(guarded, folder=tmp_path)
    assert guarded.stopped
    assert guarded.step < 60
    wrong = guarded.findings[-1]
    assert wrong.step == guarded.step
    back = next(r for r in guarded.readings if f"back to step {r.step}" in wrong.text)
    assert torch.equal(guarded.logits.detach(), back.logits)
    again = collapsing(guard=True)
    fit(again, folder=tmp_path)  # a search that was stopped stays stopped, and still says why
    assert again.step == guarded.step
    assert again.findings == guarded.findings
    assert torch.equal(again.logits, guarded.logits)
