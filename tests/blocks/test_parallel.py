"""Mixers side by side, in whole networks: any combination of them from one set of weights."""

from __future__ import annotations

from random import Random

import pytest
import torch

from foundation.errors import IllegalArchitecture
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.mamba2 import Mamba2
from search_spaces.blocks.parallel import Parallel
from search_spaces.blocks.short_conv import ShortConv
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.choices import one_of
from search_spaces.language.serialization import from_json, to_json
from search_spaces.language.space import Space
from search_spaces.mixture import Mixture
from search_spaces.mixture.stand_ins import stands_in
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.model import build
from search_spaces.network.scaling import ELEMENTWISE
from search_spaces.quantization.bits import Bits
from search_spaces.scenario import Scenario
from tests.search_spaces.networks import decoded, randomised, text

VOCAB = 13
ATTENTION = Attention(num_heads=2, num_kv_heads=1, head_dim=8)
STATES = Mamba2(num_heads=2, head_dim=8, state_dim=8)


def space() -> Space:
    heads = Attention(num_heads=2, num_kv_heads=one_of(1, 2), head_dim=8)
    both = Parallel(
        mixers=(heads, one_of(STATES, ShortConv(kernel=one_of(2, 3)))), normed=one_of(False, True)
    )
    layer = Layer(
        sequence_mixer=one_of(ATTENTION, both),
        channel_mixer=SwiGLU(expansion=1),
        bits=Bits(weight=one_of(16, 8), state=one_of(16, 8)),
    )
    return Space(Decoder(vocab=VOCAB, d_model=one_of(8, 16), layers=(layer, layer)))


def test_every_combination_is_read_from_one_set_of_weights_and_mixed() -> None:
    found = space()
    supernet, tokens = randomised(found), text(VOCAB, 2, 9)
    mixture, seen = Mixture(supernet), set[str]()
    for seed in range(12):
        genotype = found.sample(Random(seed))
        subnet = supernet.subnet(found.close(genotype))
        subnet.module.eval()
        copy = subnet.extract().eval()
        seen |= {
            name.split(".mixers.")[1].partition(".")[0]
            for name, _ in copy.named_parameters()
            if ".mixers." in name
        }
        with torch.no_grad():
            alone, mixed = subnet(tokens), mixture(tokens, mixture.one_hot(genotype))
            assert torch.equal(alone, copy(tokens))
            torch.testing.assert_close(mixed, alone, rtol=1e-4, atol=1e-4)
        assert subnet.spec.cost(Scenario()).params == sum(p.numel() for p in copy.parameters())
        assert from_json(to_json(subnet.spec)) == subnet.spec
    assert seen == {"0_Attention", "1_Mamba2", "1_ShortConv"}


@pytest.mark.parametrize("normed", [False, True])
def test_steps_equal_a_prefill(normed: bool) -> None:
    both = Parallel(
        mixers=(Attention(num_heads=2, num_kv_heads=1, head_dim=8, window=4), STATES), normed=normed
    )
    model = build(Decoder(vocab=VOCAB, d_model=16, layers=(Layer(sequence_mixer=both),) * 2)).double().eval()
    with torch.no_grad():
        tokens = text(VOCAB, 2, 20)
        torch.testing.assert_close(decoded(model, tokens, 11), model(tokens), rtol=1e-9, atol=1e-9)


def test_parameters_have_the_roles_that_they_have_alone() -> None:
    both = Parallel(mixers=(ATTENTION, STATES))
    roles = build(Decoder(d_model=16, layers=(Layer(sequence_mixer=both),))).roles()
    alone = build(Decoder(d_model=16, layers=(Layer(sequence_mixer=STATES),))).roles()
    path = "layers.0.sequence_mixer.mixer."
    own = {name.removeprefix(path): role for name, role in alone.items() if name.startswith(path)}
    assert ELEMENTWISE in own.values()
    assert {name: roles[f"{path}mixers.1_Mamba2.{name}"] for name in own} == own


def test_a_longer_window_stands_in_for_none() -> None:
    """Neither do zeros imitate it, nor would a short text tell."""

    def variant(window: int, heads: int) -> tuple[Parallel, int]:
        attention = Attention(num_heads=heads, num_kv_heads=1, head_dim=8, window=window)
        return Parallel(mixers=(attention, ShortConv(kernel=3))), 16

    assert stands_in(variant(256, 2), variant(256, 1))
    assert not stands_in(variant(256, 2), variant(128, 1))


@pytest.mark.parametrize(
    ("mixers", "message"),
    [
        ((ATTENTION,), "mixers must be two or more"),
        ((ATTENTION, SwiGLU()), "mixers.1 must be a single block that mixes sequences, got SwiGLU"),
        ((ATTENTION, Parallel()), "mixers.1 must be a single block"),
        ((ATTENTION, Attention(num_heads=3, num_kv_heads=2)), "mixers.1: Attention: num_heads=3 must be"),
    ],
)
def test_wrong_mixers_are_refused(mixers: tuple[object, ...], message: str) -> None:
    with pytest.raises(IllegalArchitecture, match=message):
        Parallel(mixers=mixers).check(16)  # type: ignore[arg-type]
