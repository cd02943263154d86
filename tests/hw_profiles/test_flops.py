from random import Random

import pytest

from hw_profiles.flops import count_flops
from search_spaces.blocks.base import blocks
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.scenario import Scenario
from tests.hw_profiles.tiny import SCENARIO, Sum, small_space


@pytest.mark.parametrize("seed", range(3))
def test_counted_equals_claimed(seed):
    dice, scenario = Random(seed), Scenario(prompt=7, batch=2)
    _, spec = small_space().propose_with_spec(lambda path, labels: dice.choice(labels))
    assert count_flops(spec, scenario) == spec.cost(scenario).prefill_flops


def test_a_network_without_layers_is_its_logits():
    assert count_flops(Decoder(vocab=16, d_model=8, layers=()), SCENARIO) == 2 * 8 * 16 * 8


@pytest.mark.parametrize("prompt", [50, 256])
@pytest.mark.parametrize("block", [block for kind in blocks.values() for block in kind.examples()], ids=repr)
def test_every_block_claims_what_it_computes(block, prompt):
    scenario = Scenario(prompt=prompt, batch=2)
    layer = (
        Layer(sequence_mixer=block)
        if block.mixes == "sequence"
        else Layer(sequence_mixer=Sum(), channel_mixer=block)
    )
    spec = Decoder(d_model=24, layers=(layer,))
    assert count_flops(spec, scenario) == pytest.approx(spec.cost(scenario).prefill_flops, rel=0.02)
