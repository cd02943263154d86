"""What trains and scores networks asks the network's norm: sorting, replacement scores, expected costs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch

from evaluators.blockwise.replacement import Replacements
from evaluators.blockwise.shared_sublayer import BorrowedSublayer
from evaluators.differentiable.expected_cost import expected_cost
from evaluators.supernet.importance import sort_by_importance
from search_spaces.blocks.rglru import RGLRU
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.choices import one_of, repeat
from search_spaces.language.space import Space
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.ends import Embedding, Head
from search_spaces.network.norms.base import Norm, norms
from search_spaces.network.norms.layer_norm import LayerNorm
from search_spaces.network.sublayers import sublayers_in, sublayers_of
from search_spaces.scenario import Scenario
from tests.evaluators import tiny
from tests.evaluators.test_alignment import ATTENTION, shaken
from tests.evaluators.test_replacement import real_kl

NORMS = [*(norms[name]() for name in norms), LayerNorm(bias=False, place="both", residual_scale=0.5)]
EVERY_NORM = pytest.mark.parametrize("norm", NORMS, ids=str)
ENDS: dict[str, Any] = {"embedding": Embedding(scale=2.0), "head": Head(tied=False, softcap=3.0)}
LRU = RGLRU(num_heads=2, head_dim=8)


def space_of(norm: object) -> Space:
    layer = Layer(
        sequence_mixer=one_of(ATTENTION, LRU),
        channel_mixer=one_of(None, SwiGLU(expansion=one_of(1, 2))),
        reads_embedding=one_of(False, True),
    )
    return Space(Decoder(d_model=one_of(16, 24), layers=repeat(layer, (1, 2)), norm=norm, **ENDS))  # type: ignore[arg-type]


def parent_of(norm: Norm) -> Decoder:
    layer = Layer(sequence_mixer=ATTENTION, channel_mixer=SwiGLU(expansion=2), reads_embedding=True)
    return Decoder(d_model=24, layers=(layer, layer), norm=norm, **ENDS)


@EVERY_NORM
def test_a_borrowed_sublayer_computes_what_it_does_in_its_network(norm: Norm) -> None:
    supernet, parent = shaken(space_of(norm)), parent_of(norm)
    tokens = torch.arange(10)[None]
    model = supernet.subnet(parent).extract().eval()
    layer = model.decoder_layers[0]
    with torch.no_grad():
        x = model.embed(tokens) + 1.0
        embedded = layer._embedded("sequence_mixer", model.embed(tokens))
        expected = layer.sublayers["sequence_mixer"](x, None, 0, embedded).y
        read = BorrowedSublayer(supernet, next(sublayers_of(parent)))(x, model.embed(tokens)).y
    torch.testing.assert_close(read, expected)


@EVERY_NORM
def test_a_score_is_the_divergence_of_the_changed_network(norm: Norm, tmp_path: Path) -> None:
    task = tiny.task(tmp_path, length=37, windows=3)
    supernet, parent = shaken(space_of(norm)), parent_of(norm)
    scores = Replacements(supernet, parent, task)
    for sublayer in list(scores.wanted())[:12]:
        assert getattr(sublayer, "norm", norm) == norm or getattr(sublayer, "block", None) is None
    layers = (parent.layers[0], replace(parent.layers[1], sequence_mixer=LRU))
    changed = replace(parent, layers=layers)
    want = float(real_kl(supernet, parent, changed, task).mean())
    assert scores.score(list(sublayers_of(changed))[2]).kl == pytest.approx(want, rel=1e-4, abs=1e-7)


@EVERY_NORM
def test_sorting_changes_no_network_that_was_trained(norm: Norm) -> None:
    space = space_of(norm)
    supernet, largest = shaken(space), parent_of(norm)
    tokens = torch.arange(10)[None]
    with torch.no_grad():
        before = supernet.subnet(largest)(tokens)
        moved = sort_by_importance(supernet, replace(largest, layers=(largest.layers[0],) * 2), space.root)
        after = supernet.subnet(largest)(tokens)
    assert any(entry.moved for entry in moved if entry.path == "d_model")
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5)


def test_an_expected_cost_is_exact_over_a_choice_of_norms() -> None:
    space = space_of(one_of(*NORMS) if len(NORMS) > 1 else NORMS[0])
    cost = expected_cost(space, lambda specs: [float(spec.cost(Scenario()).params) for spec in specs])
    assert cost.exact
    dice, kinds = Random(0), set[Norm]()
    for _ in range(8):
        genotype = space.sample(dice)
        kinds.add(space.close(genotype).norm)
    assert len(kinds) == len(NORMS)
    assert {sublayer.norm for sublayer in sublayers_in(space)} == kinds
