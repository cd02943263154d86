"""Replacement scores against whole networks, kept and resumed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from evaluators.blockwise.replacement import Replacements
from evaluators.blockwise.replacement_scores import (
    LayerRemoved,
    Moved,
    Width,
    canonical,
    load_scores,
    save_scores,
)
from evaluators.scoring.windows import state_segment
from evaluators.tasks.base import Task
from evaluators.tasks.recall import Recall
from foundation.errors import DataError, EvaluationFailed, SpaceError
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.base import Block
from search_spaces.blocks.moe import MoE
from search_spaces.blocks.rglru import RGLRU
from search_spaces.blocks.short_conv import ShortConv
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.choices import one_of
from search_spaces.language.space import Space
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.sublayers import Sublayer, sublayers_in
from search_spaces.quantization.bits import Bits
from search_spaces.supernet import Supernet
from tests.evaluators import tiny
from tests.evaluators.test_alignment import ATTENTION, parent_of, shaken, small_space


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    return tiny.task(tmp_path_factory.mktemp("text"), length=37, windows=5)


def real_kl(supernet: Supernet, parent: Decoder, spec: Decoder, task: Task) -> torch.Tensor:
    """KL(parent || spec) by window, from the logits of whole subnets and the definition."""
    tokens, targets = task.validation()
    with torch.no_grad():
        p = supernet.subnet(parent)(tokens, segment=state_segment(parent)).double().log_softmax(-1)
        q = supernet.subnet(spec)(tokens, segment=state_segment(spec)).double().log_softmax(-1)
    judged = (targets != -100).double()
    return ((p.exp() * (p - q)).sum(-1) * judged).sum(1) / judged.sum(1)


@pytest.mark.parametrize("index", [0, 1, 2])
@pytest.mark.parametrize(
    ("place", "block"),
    [
        ("sequence_mixer", RGLRU(num_heads=2, head_dim=8)),
        ("sequence_mixer", Attention(num_heads=2, num_kv_heads=1, head_dim=8)),
        ("channel_mixer", MoE(num_experts=2, top_k=1, expansion=1)),
        ("channel_mixer", None),
    ],
)
@pytest.mark.parametrize("d_model", [16, 24])
def test_a_score_is_the_divergence_of_the_network_with_that_sublayer(
    task: Task, index: int, place: str, block: Block | None, d_model: int
) -> None:
    supernet, parent = shaken(small_space()), parent_of()
    layers = list(parent.layers)
    layers[index] = replace(layers[index], **{place: block})
    changed = Decoder(d_model=d_model, layers=tuple(layers))
    own = real_kl(supernet, parent, replace(parent, d_model=d_model), task)
    want = real_kl(supernet, parent, changed, task) - own
    scores = Replacements(supernet, parent, task)
    found = scores.score(Sublayer(place, block, d_model, site=f"layers.{index}"))
    assert found.kl == pytest.approx(float(want.mean()), rel=1e-4, abs=1e-7)
    assert found.error == pytest.approx(float(want.std()) / len(want) ** 0.5, rel=1e-3, abs=1e-7)
    base = scores.score(Width(d_model))
    assert base.kl == pytest.approx(float(own.mean()), rel=1e-4, abs=1e-7)
    assert scores.divergence(changed).kl == pytest.approx(base.kl + found.kl, rel=1e-4, abs=1e-6)


def test_bits_of_weights_and_state_are_scored_as_they_are_used(task: Task) -> None:
    layer = Layer(
        sequence_mixer=one_of(ATTENTION, RGLRU(num_heads=2, head_dim=8)),
        bits=Bits(weight=one_of(3, 4, 16), state=one_of(4, 8, 16)),
    )
    space = Space(Decoder(d_model=24, layers=(layer, layer)))
    supernet = shaken(space)
    plain = Layer(sequence_mixer=ATTENTION)
    parent = Decoder(d_model=24, layers=(plain, plain))
    scores = Replacements(supernet, parent, task)
    for bits in (Bits(weight=3), Bits(state=4), Bits(weight=4, state=8)):
        for block in (ATTENTION, RGLRU(num_heads=2, head_dim=8)):
            changed = replace(parent, layers=(plain, Layer(sequence_mixer=block, bits=bits)))
            want = float(real_kl(supernet, parent, changed, task).mean())
            found = scores.score(Sublayer("sequence_mixer", block, 24, bits, site="layers.1"))
            assert found.kl == pytest.approx(want, rel=1e-3, abs=1e-7)
            assert found.kl > 0


def test_a_layer_left_out_is_the_network_without_it(task: Task) -> None:
    supernet, parent = shaken(small_space()), parent_of()
    scores = Replacements(supernet, parent, task)
    found = scores.score(LayerRemoved(2, 24))
    want = real_kl(supernet, parent, replace(parent, layers=parent.layers[:2]), task)
    assert found.kl == pytest.approx(float(want.mean()), rel=1e-4)


def test_a_parent_without_a_channel_mixer_and_with_few_bits_is_read_as_it_is(task: Task) -> None:
    supernet = shaken(small_space())
    rough = Layer(sequence_mixer=ShortConv(kernel=3), bits=Bits(weight=4, state=8))
    parent = Decoder(d_model=16, layers=(rough, parent_of().layers[0], rough))
    scores = Replacements(supernet, parent, task)
    for index in range(3):
        layers = list(parent.layers)
        layers[index] = replace(layers[index], channel_mixer=SwiGLU(expansion=1))
        want = real_kl(supernet, parent, replace(parent, layers=tuple(layers)), task)
        sublayer = Sublayer(
            "channel_mixer", SwiGLU(expansion=1), 16, layers[index].bits, site=f"layers.{index}"
        )
        assert scores.score(sublayer).kl == pytest.approx(float(want.mean()), rel=1e-3, abs=1e-6)


def test_the_parents_own_sublayers_score_nothing_and_only_judged_tokens_count() -> None:
    recall = Recall(tokens=24, length=30, pairs=2, sequences=4, windows=6)
    layer = Layer(sequence_mixer=one_of(ATTENTION, ShortConv(kernel=3)))
    space = Space(Decoder(vocab=24, d_model=24, layers=(layer, layer)))
    supernet = shaken(space)
    own = Layer(sequence_mixer=ATTENTION)
    parent = Decoder(vocab=24, d_model=24, layers=(own, own))
    scores = Replacements(supernet, parent, recall)
    assert scores.score(Sublayer("sequence_mixer", ATTENTION, 24, site="layers.1")).kl == pytest.approx(
        0.0, abs=1e-7
    )
    changed = replace(parent, layers=(own, Layer(sequence_mixer=ShortConv(kernel=3))))
    found = scores.score(Sublayer("sequence_mixer", ShortConv(kernel=3), 24, site="layers.1"))
    assert found.kl == pytest.approx(float(real_kl(supernet, parent, changed, recall).mean()), rel=1e-4)


def test_everything_that_may_stand_somewhere_is_scored_once(task: Task) -> None:
    supernet, parent = shaken(small_space()), parent_of()
    scores = Replacements(supernet, parent, task)
    wanted = list(scores.wanted())
    assert {canonical(sublayer) for sublayer in sublayers_in(supernet.space)} <= set(wanted)
    assert {Width(16), Width(24), LayerRemoved(2, 16)} <= set(wanted)
    channels = [one for one in wanted if isinstance(one, Sublayer) and one.place == "channel_mixer"]
    assert channels
    assert all(sublayer.bits.state == 16 for sublayer in channels)


def test_scores_are_kept_and_only_the_missing_ones_are_measured(task: Task, tmp_path: Path) -> None:
    supernet, parent, path = shaken(small_space()), parent_of(), tmp_path / "scores.json"
    scores = Replacements(supernet, parent, task, windows=2)
    everything = list(dict.fromkeys(scores.wanted()))
    first = scores.measure(path, replacements=everything[:9])
    heard: list[tuple[int, int]] = []
    again = scores.measure(path, replacements=everything[:12], on_score=lambda *told: heard.append(told))
    assert heard == [(10, 12), (11, 12), (12, 12)]
    assert {replacement: again[replacement] for replacement in first} == first
    assert load_scores(path, scores.origin) == again
    assert json.loads(path.read_text())["unit"] == "nats per judged token"
    other = Replacements(shaken(small_space(), seed=5), parent, task, windows=2)
    assert load_scores(path, other.origin) == {}, "scores of other weights are not these"


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    save_scores(path, {}, {Width(8): Moved(0.1, 0.01)})
    assert load_scores(path, {}) == {Width(8): Moved(0.1, 0.01)}
    path.write_text(path.read_text().replace('"kl"', '"lk"'))
    with pytest.raises(DataError, match="no replacement scores"):
        load_scores(path, {})
    path.write_text("{")
    with pytest.raises(DataError, match="not JSON"):
        load_scores(path, {})


def test_what_does_not_add_up_or_is_not_there_is_refused(task: Task) -> None:
    layer = Layer(sequence_mixer=ATTENTION, shared="one")
    space = Space(Decoder(d_model=24, layers=(layer, layer)))
    with pytest.raises(SpaceError, match=r"the parent's layers\.0 shares weights"):
        Replacements(Supernet(space), space.root, task)
    scores = Replacements(shaken(small_space()), parent_of(), task)
    with pytest.raises(SpaceError, match=r"has no layers\.7"):
        scores.score(LayerRemoved(7, 24))
    with pytest.raises(SpaceError, match="cannot be 32 wide"):
        scores.score(Width(32))


def test_a_divergence_that_is_not_finite_is_an_outcome(task: Task) -> None:
    supernet, parent = shaken(small_space()), parent_of()
    scores = Replacements(supernet, parent, task)
    with torch.no_grad():
        supernet.weights["layers.0.sequence_mixer:ShortConv.norm"].fill_(float("nan"))
    with pytest.raises(EvaluationFailed, match="not finite"):
        scores.score(Sublayer("sequence_mixer", ShortConv(kernel=3), 24, site="layers.0"))
