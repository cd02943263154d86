"""A large vocabulary costs what it should: parameters, FLOPs, bytes, memory, and a part that is timed."""

from __future__ import annotations

from pathlib import Path

import pytest

from hw_profiles.flops import count_flops
from hw_profiles.latency.parts import around, parts_of
from hw_profiles.memory.prediction import measure_memory, predict_memory
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.model import build
from search_spaces.network.model_files import save_model
from search_spaces.scenario import Scenario

LAYER = Layer(
    sequence_mixer=Attention(num_heads=2, num_kv_heads=1, head_dim=16), channel_mixer=SwiGLU(expansion=2)
)
SCENARIO = Scenario(prompt=32, new_tokens=4)


@pytest.mark.parametrize("vocab", [8_000, 49_152])
def test_costs_and_memory_are_those_of_the_network(vocab: int, tmp_path: Path) -> None:
    spec = Decoder(vocab=vocab, d_model=32, layers=(LAYER,) * 2)
    cost, model = spec.cost(SCENARIO), build(spec)
    assert cost.params == sum(weight.numel() for weight in model.parameters())
    assert cost.prefill_flops == count_flops(spec, SCENARIO)
    assert cost.decode_flops > 2 * vocab * spec.d_model
    weights = save_model(model, tmp_path / "m") / "model.safetensors"
    assert 0 <= weights.stat().st_size - cost.weight_bytes < 4_096  # the names and shapes
    predicted, measured = predict_memory(spec, SCENARIO), measure_memory(model, SCENARIO)
    assert predicted == measured
    assert predicted.prefill_bytes > 4 * SCENARIO.prompt * vocab  # logits of all that is read


def test_embedding_and_logits_are_a_part_of_each_vocabulary() -> None:
    small, large = (Decoder(vocab=vocab, d_model=32, layers=(LAYER,)) for vocab in (256, 49_152))
    assert around(small) in parts_of(small)
    assert around(large) in parts_of(large)
    assert around(small) != around(large)
