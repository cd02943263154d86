"""Zero-cost scores: every one of the registry keeps the contract, and each is what its formula says."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from evaluators.tasks.recall import Recall
from evaluators.zero_cost.base import Probe, zero_cost_score, zero_costs
from evaluators.zero_cost.effective_rank import effective_rank
from evaluators.zero_cost.gradient_norm import gradient_norm
from evaluators.zero_cost.naswot import naswot
from evaluators.zero_cost.params_without_embeddings import params_without_embeddings
from evaluators.zero_cost.snip import snip
from evaluators.zero_cost.synflow import synflow
from foundation.errors import EvaluationFailed, IllegalArchitecture, UnknownName
from foundation.statistics import kendall_tau, tau_difference
from search_spaces.blocks.base import blocks
from search_spaces.blocks.rglru import RGLRU
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.model import build
from search_spaces.scenario import Scenario

TASK = Recall(tokens=16, length=9, pairs=2, sequences=50, windows=8)
SPEC = Decoder(
    vocab=16, d_model=8, layers=(Layer(sequence_mixer=RGLRU(), channel_mixer=SwiGLU(expansion=2)),) * 2
)


def probe_of(spec: Decoder = SPEC, seed: int = 0) -> Probe:
    return Probe(build(spec, seed=seed), *TASK.train_batch(0, seed, 6))


@pytest.mark.parametrize("name", list(zero_costs))
def test_a_score_depends_on_network_task_and_seed_alone(name: str) -> None:
    first = zero_cost_score(name, SPEC, TASK, 0)
    assert math.isfinite(first)
    other = replace(SPEC, layers=SPEC.layers[:1])
    assert zero_cost_score(name, other, TASK, 0) != first
    assert zero_cost_score(name, SPEC, TASK, 0) == first
    if name != "params_without_embeddings":
        assert zero_cost_score(name, SPEC, TASK, 1) != first


@pytest.mark.parametrize("name", list(zero_costs))
def test_a_score_changes_neither_weights_nor_batch(name: str) -> None:
    probe, untouched = probe_of(), probe_of()
    zero_costs[name](probe)
    for weight, before in zip(probe.model.parameters(), untouched.model.parameters(), strict=True):
        assert torch.equal(weight, before)
        assert weight.grad is None
    assert torch.equal(probe.tokens, untouched.tokens)


@pytest.mark.parametrize("kind", list(blocks))
def test_every_block_has_every_score(kind: str) -> None:
    block = blocks[kind].examples()[0]
    other = {"sequence_mixer": RGLRU(), "channel_mixer": SwiGLU(expansion=1)}
    place = "sequence_mixer" if block.mixes == "sequence" else "channel_mixer"
    layer = Layer(**{**other, place: block})
    spec = Decoder(vocab=16, d_model=24, layers=(layer,))
    assert all(math.isfinite(zero_cost_score(name, spec, TASK, 0)) for name in zero_costs)


def test_parameters_are_those_that_the_cost_counts_without_the_embedding() -> None:
    assert params_without_embeddings(probe_of()) == SPEC.cost(Scenario()).params - 16 * 8


def test_gradient_norm_and_snip_are_sums_over_the_gradients_of_the_loss() -> None:
    probe = probe_of()
    model = build(SPEC, seed=0)
    logits = model(probe.tokens)
    torch.nn.functional.cross_entropy(logits.transpose(1, 2), probe.targets, ignore_index=-100).backward()
    named = [
        (w, w.grad) for name, w in model.named_parameters() if name != "embedding" and w.grad is not None
    ]
    squares = sum(float((gradient**2).sum()) for _, gradient in named)
    assert gradient_norm(probe) == pytest.approx(math.sqrt(squares), rel=1e-5)
    removed = sum(float((w.detach() * gradient).abs().sum()) for w, gradient in named)
    assert snip(probe) == pytest.approx(removed, rel=1e-5)


def test_synflow_does_not_see_the_signs_of_weights() -> None:
    probe = probe_of()
    before = synflow(probe)
    with torch.no_grad():
        for weight in probe.model.parameters():
            weight.neg_()
    assert synflow(Probe(probe.model, probe.tokens, probe.targets)) == pytest.approx(before)


def test_naswot_counts_how_often_two_sequences_agree() -> None:
    probe = probe_of()
    added, _ = probe.features
    assert len(added) == 4  # two sublayers in each of two layers
    codes = [[bool(unit > 0) for part in added for unit in part[i].flatten()] for i in range(6)]
    alike = [
        [float(sum(a == b for a, b in zip(one, other, strict=True))) for other in codes] for one in codes
    ]
    determinant = torch.linalg.det(torch.tensor(alike, dtype=torch.float64))
    assert naswot(probe) == pytest.approx(math.log(abs(float(determinant))))


def test_equal_sequences_have_no_naswot(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens, targets = TASK.train_batch(0, 0, 1)
    alike = tokens.expand(4, -1), targets.expand(4, -1)
    monkeypatch.setattr(Recall, "train_batch", lambda *_: alike)
    with pytest.raises(EvaluationFailed, match="naswot is -inf at the initial weights"):
        zero_cost_score("naswot", SPEC, TASK, 12345)


def test_effective_rank_counts_directions() -> None:
    class Known(Probe):
        @property
        def features(self) -> tuple[list[torch.Tensor], torch.Tensor]:  # type: ignore[override]
            return [], last

    last = torch.eye(8)[:5].reshape(1, 5, 8)
    known = Known(build(SPEC, seed=0), *TASK.train_batch(0, 0, 1))
    assert effective_rank(known) == pytest.approx(5)
    last = torch.ones(1, 5, 8)
    assert effective_rank(known) == pytest.approx(1)


def test_what_cannot_be_scored_is_told() -> None:
    with pytest.raises(UnknownName, match="did you mean 'synflow'"):
        zero_cost_score("sinflow", SPEC, TASK, 0)
    with pytest.raises(IllegalArchitecture, match="vocab is 8, and task recall needs 16"):
        zero_cost_score("snip", replace(SPEC, vocab=8), TASK, 0)


def test_a_difference_of_taus_is_paired() -> None:
    truth = list(range(20))
    good, bad = truth, truth[::-1]
    noisy = [value + (5 if value % 3 else 0) for value in truth]
    assert tau_difference(good, good, truth).value == 0
    assert (tau_difference(good, good, truth).low, tau_difference(good, good, truth).high) == (0, 0)
    assert tau_difference(good, bad, truth).value == pytest.approx(2)
    gain = tau_difference(good, noisy, truth)
    assert gain.value == pytest.approx(1 - kendall_tau(noisy, truth))
    assert 0 < gain.low <= gain.value <= gain.high
