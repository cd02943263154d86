"""Every option of a layer with every engine and every prediction: it works, or is refused at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from random import Random
from typing import Any

import pytest

from evaluators.differentiable.expected_cost import expected_cost
from foundation.errors import SpaceError
from hw_profiles.latency.parts import parts_in, parts_of
from hw_profiles.memory.prediction import predict_memory
from nas.engines.base import engines
from nas.study.plan import Plan
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.choices import one_of
from search_spaces.language.space import Space
from search_spaces.network.decoder import OPTIONS, Decoder, Layer
from search_spaces.quantization.bits import Bits
from search_spaces.scenario import Scenario

VALUES = [(name, value) for name, kind in OPTIONS.items() for value in kind.examples()]
ABSENT = {field.name: field.default for field in fields(Layer)}
SCENARIO = Scenario(prompt=12, new_tokens=4)


def space_of(**options: Any) -> Space:
    mixer = Attention(num_heads=2, num_kv_heads=one_of(1, 2), head_dim=8)
    layer = Layer(sequence_mixer=mixer, channel_mixer=one_of(SwiGLU(expansion=1), None), **options)
    return Space(Decoder(vocab=13, d_model=one_of(8, 16), layers=(layer,) * 2), name="options")


def reason(engine: str, name: str, *, always: bool) -> str:
    """Why an engine refuses spaces with an option; empty where it takes them."""
    kind = OPTIONS[name]
    if engine == "darts":
        return kind.not_relaxable
    return kind.not_additive if engine == "exact" and always else ""


@pytest.mark.parametrize("always", [False, True])
@pytest.mark.parametrize("engine", sorted(engines))
@pytest.mark.parametrize(("name", "value"), VALUES)
def test_an_engine_takes_an_option_or_refuses_it_with_the_reason(
    name: str, value: Any, engine: str, always: bool
) -> None:
    space = space_of(**{name: value if always else one_of(ABSENT[name], value)})
    plan = Plan(objectives=("bits_per_byte", "params"), engine=engine)
    refused = reason(engine, name, always=always)
    if not refused:
        engines[engine]().check(space, plan)
        return
    with pytest.raises(SpaceError, match=rf"layers\.0\.{name}: .*{refused}"):
        engines[engine]().check(space, plan)


@pytest.mark.parametrize(("name", "value"), VALUES)
def test_the_parts_and_the_memory_of_an_option_are_those_of_its_networks(name: str, value: Any) -> None:
    space, dice = space_of(**{name: one_of(ABSENT[name], value)}), Random(0)
    described = set(parts_in(space))
    for _ in range(8):
        spec = space.close(space.sample(dice))
        assert set(parts_of(spec)) <= described
        assert predict_memory(spec, SCENARIO).peak_bytes > 0


@pytest.mark.parametrize(("name", "value"), VALUES)
def test_a_cost_with_an_option_adds_up_or_its_deviation_is_measured(name: str, value: Any) -> None:
    def params(specs: Sequence[Decoder]) -> list[float]:
        return [float(spec.cost(SCENARIO).params) for spec in specs]

    cost = expected_cost(space_of(**{name: one_of(ABSENT[name], value)}), params)
    assert cost.exact == (name != "shared")  # weights that are shared count once


def test_what_cannot_be_relaxed_is_refused_from_the_space_alone() -> None:
    tied = one_of(8, 16, name="n")
    mixer = Attention(num_heads=2, num_kv_heads=2, head_dim=tied)
    both = Layer(sequence_mixer=mixer, bits=Bits(state=tied))
    space = Space(Decoder(vocab=13, d_model=16, layers=(both,)))
    plan = Plan(objectives=("bits_per_byte", "params"), engine="darts")
    with pytest.raises(SpaceError, match="gene '@n' decides two things"):
        engines["darts"]().check(space, plan)
