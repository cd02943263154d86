"""Networks in one line, layer by layer, and their kinds of blocks."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dashboards.facts.networks import (
    LINE_LENGTH,
    architecture,
    kind_of,
    layer_text,
    layers_of,
    one_line_of,
    quantity,
)
from nas.study.study import Study
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.mamba2 import Mamba2
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.network.decoder import Layer
from search_spaces.quantization.bits import Bits


@pytest.mark.parametrize(
    ("block", "expected"),
    [(Attention(), "Attention"), (Attention(window=64), "Attention window 64"), (Mamba2(), "Mamba2")],
)
def test_windowed_attention_is_a_kind_of_its_own(block: object, expected: str) -> None:
    assert kind_of(block) == expected


def test_a_layer_is_named_by_its_blocks_and_bits() -> None:
    layer = Layer(sequence_mixer=Mamba2(), channel_mixer=SwiGLU(), bits=Bits(weight=4, state=8))
    bits = {"Bits": frozenset({"weight", "state"})}
    assert layer_text(layer, bits) == "Mamba2 + SwiGLU w4 s8"
    assert layer_text(layer, {}) == "Mamba2 + SwiGLU"


def test_equal_neighbours_are_counted(full: Study) -> None:
    for trial in full.predicted_front():
        spec, line = full.spec(trial), one_line_of(full, trial)
        width, _, layers = line.partition(" wide: ")
        assert int(width) == spec.d_model
        counts = [int(part.split()[0]) if part[0].isdigit() else 1 for part in layers.split(" | ")]
        assert sum(counts) == len(spec.layers)


def test_the_full_form_has_every_layer(full: Study) -> None:
    trial = full.predicted_front()[0]
    text = layers_of(full, trial)
    for layer in full.spec(trial).layers:
        assert type(layer.sequence_mixer).__name__ in text


def test_unregistered_parts_fall_back_to_genes(full: Study) -> None:
    lost = Study(full.store, replace(full.record, space_json='{"part": "Nobody", "values": {}}'))
    trial = full.predicted_front()[0]
    assert architecture(lost, trial) is None
    assert len(one_line_of(lost, trial)) <= LINE_LENGTH
    assert layers_of(lost, trial).count("\n") == len(trial.genotype.genes) - 1


def test_measured_values_are_named_like_predictions(full: Study) -> None:
    measured = full.measured()
    assert set(measured) == {t.digest for t in (*full.predicted_front(), *full.complete("baseline"))}
    assert all(set(values) == {"prefill_ms", "decode_ms"} for values in measured.values())
    assert all(value.source == "measured" for values in measured.values() for value in values.values())


@pytest.mark.parametrize(
    ("name", "unit", "label"),
    [
        ("decode_ms", "ms", "decode latency per token"),
        ("decode_ms@chat", "ms", "decode latency per token (chat)"),
        ("mine", "", "mine"),
    ],
)
def test_quantities_have_the_objectives_unit(name: str, unit: str, label: str) -> None:
    assert (quantity(name).unit, quantity(name).label) == (unit, label)
