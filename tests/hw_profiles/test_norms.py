"""Profiles ask the network's norm: memory, latency parts and their files, for every registered norm."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hw_profiles.latency.parts import Part, around, block_part, outer, parts_in, parts_of, stack_of
from hw_profiles.memory.prediction import predict_memory, trace_network
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.choices import one_of
from search_spaces.language.space import Space
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.ends import Head
from search_spaces.network.model import build
from search_spaces.network.norms.base import Norm, norms
from search_spaces.network.norms.layer_norm import LayerNorm
from search_spaces.network.norms.rms_norm import RMSNorm
from search_spaces.quantization.bits import Bits
from search_spaces.scenario import Scenario

NORMS = [*(norms[name]() for name in norms), LayerNorm(bias=False, place="both", residual_scale=0.5)]
EVERY_NORM = pytest.mark.parametrize("norm", NORMS, ids=str)
SCENARIO = Scenario(prompt=16, new_tokens=4)
ATTENTION = Attention(num_heads=2, num_kv_heads=1, head_dim=8)


def network(norm: Norm) -> Decoder:
    layer = Layer(sequence_mixer=ATTENTION, channel_mixer=SwiGLU(expansion=2), reads_embedding=True)
    head = Head(tied=False, softcap=3.0, bits=Bits(weight=8))
    return Decoder(vocab=13, d_model=16, layers=(layer, layer), norm=norm, head=head)


@EVERY_NORM
def test_memory_counts_its_vectors_and_agrees_with_the_whole_network_traced(norm: Norm) -> None:
    spec = network(norm)
    memory, whole = predict_memory(spec, SCENARIO), trace_network(spec, SCENARIO)
    params = sum(p.numel() for p in build(spec).parameters())
    assert memory.emulated_weight_bytes == 4 * params
    for name, own in (("prefill", memory.prefill_bytes), ("decode", memory.decode_bytes)):
        assert own == pytest.approx(whole[name].peak_bytes, rel=0.02)


@EVERY_NORM
def test_parts_of_a_network_have_its_norm_and_survive_their_file(norm: Norm) -> None:
    spec = network(norm)
    for part in parts_of(spec):
        assert part.norm == norm
        assert Part.from_plain(part.to_plain()) == part
        assert stack_of(part, 1, SCENARIO).spec.norm == norm
    assert around(spec) == outer(13, 16, norm, Head(tied=False, softcap=3.0))
    assert around(spec, frozenset({(8, 16, "int")})).head == spec.head
    assert "by Head(tied=False" in str(around(spec))
    assert set(parts_of(spec)) <= set(parts_in(Space(spec)))


def test_parts_of_the_default_norm_are_written_without_it() -> None:
    plain = block_part(ATTENTION, 16, 16).to_plain()
    assert "norm" not in plain
    assert "behind" not in str(block_part(ATTENTION, 16, 16))


def test_a_choice_of_norms_has_the_parts_of_each() -> None:
    first, second = RMSNorm(), RMSNorm(epsilon=1e-3)
    space = Space(replace(network(first), norm=one_of(first, second)))
    parts = set(parts_in(space))
    assert {*parts_of(network(first)), *parts_of(network(second))} <= parts
    assert len({part.family for part in parts if part.kind == "Attention"}) == 2
