"""Expected costs and replacement scores where a layer's mixer is special: illegal at a width, or a reader."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from evaluators.blockwise.replacement import Replacements
from evaluators.differentiable.expected_cost import expected_cost
from search_spaces.blocks.short_conv import ShortConv
from search_spaces.language.choices import one_of
from search_spaces.language.space import Space
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.sublayers import Sublayer
from search_spaces.scenario import Scenario
from tests.evaluators import tiny
from tests.evaluators.test_alignment import parent_of, shaken, small_space
from tests.search_spaces.test_sublayers import ByThree


def params(specs: Sequence[Decoder]) -> list[float]:
    return [float(spec.cost(Scenario()).params) for spec in specs]


def test_a_mixer_that_is_illegal_at_one_width_counts_at_the_others() -> None:
    layer = Layer(sequence_mixer=one_of(ByThree(), ShortConv(kernel=3)))
    space = Space(Decoder(vocab=16, d_model=one_of(16, 24, 48), layers=(layer, layer)))
    assert expected_cost(space, params).exact


def test_a_mixer_that_reads_the_embedding_is_scored_as_such(tmp_path: Path) -> None:
    supernet, parent = shaken(small_space(reads_embedding=one_of(False, True))), parent_of()
    scores = Replacements(supernet, parent, tiny.task(tmp_path, length=21, windows=5))
    own = parent.layers[1]
    sublayer = Sublayer("sequence_mixer", own.sequence_mixer, 24, reads_embedding=True, site="layers.1")
    changed = (parent.layers[0], replace(own, reads_embedding=True), parent.layers[2])
    expected = scores.divergence(replace(parent, layers=changed))
    assert expected.kl > 0
    assert scores.score(sublayer).kl == pytest.approx(expected.kl, rel=1e-4)
