"""One set of weights, three readings: what a slice computes, its copy computes bit for bit."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from foundation.errors import IllegalArchitecture, SpaceError
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.mamba2 import Mamba2
from search_spaces.blocks.moe import MoE
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.choices import one_of, repeat
from search_spaces.language.space import Space
from search_spaces.network.cost import block_state_bytes
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.model import build
from search_spaces.network.model_files import load_model, save_model
from search_spaces.quantization.bits import Bits
from search_spaces.scenario import Scenario
from search_spaces.spaces.laptop import laptop
from search_spaces.supernet import Supernet

SPACE = laptop()
DENSE_BOUND, ROUTED_BOUND = 0.02, 0.25
"""How far 8-bit states may move the logits: near a router's edge an expert may change."""


def specs(count: int, seed: int = 0) -> list[Decoder]:
    dice = Random(seed)
    return [SPACE.close(SPACE.sample(dice)) for _ in range(count)]


def randomised(seed: int = 1) -> Supernet:
    """Every parameter moved off its start, norms, biases and decays too."""
    supernet, dice = Supernet(SPACE), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in supernet.parameters():
            noise = torch.empty_like(weight).normal_(generator=dice)
            weight += 0.1 * weight.abs().mean() * noise
    return supernet


@pytest.fixture(scope="module")
def supernet() -> Supernet:
    return randomised()


def tokens(length: int, batch: int = 2, seed: int = 0) -> Tensor:
    return torch.randint(256, (batch, length), generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def test_slice_equals_copy_bit_for_bit(supernet: Supernet) -> None:
    for number, spec in enumerate(specs(50)):
        subnet = supernet.subnet(spec)
        text = tokens(1 + 7 * (number % 6), seed=number)
        assert torch.equal(subnet(text), subnet.extract()(text)), str(spec)


@torch.no_grad()
def test_decoding_step_by_step_equals_prefill(supernet: Supernet) -> None:
    for number, spec in enumerate(specs(50)):
        layers = tuple(
            Layer(
                sequence_mixer=layer.sequence_mixer,
                channel_mixer=layer.channel_mixer,
                bits=Bits(weight=layer.bits.weight, state=16),
            )
            for layer in spec.layers
        )
        exact = Decoder(vocab=spec.vocab, d_model=spec.d_model, layers=layers)
        model = supernet.subnet(exact).extract().double()
        text = tokens(30, seed=number)
        whole, _ = model.prefill(text)
        logits, state = model.prefill(text[:, :11], capacity=13)  # too small on purpose: it has to grow
        pieces = [logits]
        for token in text[:, 11:].unbind(1):
            logits, state = model.step(token, state)
            pieces.append(logits[:, None])
        assert state.position == 30
        torch.testing.assert_close(torch.cat(pieces, 1), whole, rtol=0, atol=1e-9, msg=str(spec))
        torch.testing.assert_close(model(text, segment=16), whole, rtol=0, atol=1e-9, msg=str(spec))


@torch.no_grad()
def test_eight_bit_states_stay_within_the_documented_bound(supernet: Supernet) -> None:
    for number, spec in enumerate(specs(50)):
        layers = tuple(
            Layer(
                sequence_mixer=layer.sequence_mixer,
                channel_mixer=layer.channel_mixer,
                bits=Bits(weight=layer.bits.weight, state=8),
            )
            for layer in spec.layers
        )
        model = (
            supernet.subnet(Decoder(vocab=spec.vocab, d_model=spec.d_model, layers=layers)).extract().double()
        )
        text = tokens(32, seed=number)
        whole = model(text)
        logits, state = model.prefill(text[:, :16])
        pieces = [logits]
        for token in text[:, 16:].unbind(1):
            logits, state = model.step(token, state)
            pieces.append(logits[:, None])
        error = (torch.cat(pieces, 1) - whole).square().mean().sqrt() / whole.std()
        routed = any(isinstance(layer.channel_mixer, MoE) for layer in layers)
        assert 0 < error < (ROUTED_BOUND if routed else DENSE_BOUND), str(spec)


@pytest.mark.parametrize("shared", [False, True])
def test_gradients_of_leaves_are_those_of_autograd_through_the_slices(shared: bool) -> None:
    supernet = randomised()
    for spec in specs(5, seed=3):
        subnet, text = supernet.subnet(spec), tokens(20)
        supernet.zero_grad()
        sixteen = supernet.at_sixteen() if shared else None
        leaves = subnet.leaves(sixteen)
        subnet(text, subnet.rounded(leaves, sixteen)).logsumexp(-1).mean().backward()
        supernet.accumulate(subnet, leaves)
        quick = {key: w.grad.clone() for key, w in supernet.weights.items() if w.grad is not None}
        supernet.zero_grad()
        subnet(text).logsumexp(-1).mean().backward()
        for key, weight in supernet.weights.items():
            if weight.grad is None:
                assert key not in quick
            else:
                torch.testing.assert_close(quick[key], weight.grad, msg=key)


def test_what_is_rounded_once_for_all_subnets_is_what_each_one_rounds(supernet: Supernet) -> None:
    sixteen = supernet.at_sixteen()
    for spec in specs(5, seed=4):
        subnet = supernet.subnet(spec)
        own, once = subnet.weights(), subnet.rounded(subnet.leaves(sixteen), sixteen)
        assert own.keys() == once.keys()
        assert all(torch.equal(own[name], once[name]) for name in own)


def odd() -> Space:
    """Parameters whose sizes are no multiples of anything."""
    layer = Layer(
        sequence_mixer=Mamba2(num_heads=3, head_dim=16, state_dim=8),
        channel_mixer=MoE(num_experts=3, top_k=1, expansion=1),
    )
    return Space(Decoder(vocab=37, d_model=one_of(48, 64), layers=(layer,)))


def test_what_is_rounded_together_begins_where_kernels_can_read_it() -> None:
    supernet = Supernet(odd())
    assert any(weight.numel() % 16 for weight in supernet.weights.values())
    for values in supernet.at_sixteen().values():
        assert values.storage_offset() * values.itemsize % 64 == 0
        assert values.is_contiguous()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_supernets_of_other_dtypes_learn(dtype: torch.dtype) -> None:
    supernet = Supernet(odd())
    for weight in supernet.weights.values():
        weight.data = weight.data.to(dtype)
    spec = supernet.space.close(supernet.space.sample(Random(0)))
    subnet, sixteen = supernet.subnet(spec), supernet.at_sixteen()
    leaves = subnet.leaves(sixteen)
    subnet(torch.arange(9)[None], subnet.rounded(leaves, sixteen)).float().logsumexp(-1).mean().backward()
    supernet.accumulate(subnet, leaves)
    assert {w.grad.dtype for w in supernet.weights.values() if w.grad is not None} == {dtype}


def test_gradients_that_somebody_else_dropped_do_not_come_back() -> None:
    supernet, gradients = randomised(), []
    spec = specs(1, seed=5)[0]
    for forget in (lambda: None, supernet.zero_grad, torch.optim.SGD(supernet.parameters()).zero_grad):
        forget()
        subnet = supernet.subnet(spec)
        leaves = subnet.leaves()
        subnet(tokens(9), subnet.rounded(leaves)).logsumexp(-1).mean().backward()
        supernet.accumulate(subnet, leaves)
        gradients.append({k: w.grad.clone() for k, w in supernet.weights.items() if w.grad is not None})
    for again in gradients[1:]:
        assert again.keys() == gradients[0].keys()
        assert all(torch.equal(again[key], gradients[0][key]) for key in again)


def test_activating_a_subnet_changes_nothing(supernet: Supernet) -> None:
    before = {key: weight.detach().clone() for key, weight in supernet.weights.items()}
    for spec in specs(5):
        supernet.subnet(spec)(tokens(9)).sum().backward()
    supernet.zero_grad()
    assert all(torch.equal(before[key], weight) for key, weight in supernet.weights.items())


def test_the_largest_shapes_are_those_of_the_space(supernet: Supernet) -> None:
    assert supernet.weights["embedding"].shape == (256, 96)
    assert supernet.weights["layers.3.sequence_mixer:Attention.mixer.wk"].shape == (4, 16, 96)
    assert supernet.weights["layers.0.channel_mixer:SwiGLU.mixer.up"].shape == (288, 96)
    assert "layers.4.sequence_mixer:Attention.mixer.wk" not in supernet.weights


def test_a_network_from_outside_the_space_is_refused(supernet: Supernet) -> None:
    wide = Attention(num_heads=8, num_kv_heads=8, head_dim=16)
    outside = Decoder(d_model=96, layers=(Layer(sequence_mixer=wide, channel_mixer=SwiGLU(expansion=1)),))
    with pytest.raises(IllegalArchitecture, match=r"layers\.0\.sequence_mixer.*needs.*has only"):
        supernet.subnet(outside)


def test_a_space_without_a_decoder_has_no_supernet() -> None:
    with pytest.raises(SpaceError, match="needs a space of Decoder"):
        Supernet(Space(SwiGLU(expansion=one_of(1, 2))))


@torch.no_grad()
def test_an_exported_network_comes_back_bit_for_bit(supernet: Supernet, tmp_path: Path) -> None:
    for number, spec in enumerate(specs(12, seed=5)):
        model = supernet.subnet(spec).extract()
        folder = save_model(model, tmp_path / str(number), {"why": "test"})
        again = load_model(folder)
        text = tokens(17, seed=number)
        assert again.spec == spec
        assert torch.equal(again(text), model(text)), str(spec)
        stored = load_file(folder / "model.safetensors")
        written = sum(tensor.numel() * tensor.element_size() for tensor in stored.values())
        assert written == spec.cost(Scenario()).weight_bytes, str(spec)
        assert {t.dtype for t in stored.values()} <= {torch.bfloat16, torch.float32, torch.int8}


def test_state_bytes_are_those_of_the_stored_state() -> None:
    context, batch = 40, 2
    for spec in specs(20, seed=7):
        layers = tuple(
            Layer(sequence_mixer=layer.sequence_mixer, bits=Bits(state=8)) for layer in spec.layers
        )
        spec = Decoder(d_model=spec.d_model, layers=layers)
        state = build(spec).init_state(batch, context)
        held = sum(
            tensor.numel() * tensor.element_size()
            for layer in state.layers
            for stored in layer.values()
            for tensor in stored.values()
        )
        counted = [block_state_bytes(layer.sequence_mixer, spec.d_model, 8, context) for layer in layers]
        assert held == batch * sum(counted)


def test_a_place_starts_alike_whatever_stands_elsewhere() -> None:
    first, second = (
        build(
            Decoder(d_model=16, layers=(Layer(sequence_mixer=Attention(head_dim=4)), Layer(sequence_mixer=m)))
        )
        for m in (Attention(head_dim=4), Attention(head_dim=4, num_kv_heads=1))
    )
    assert torch.equal(
        first.layers[0].sublayers["sequence_mixer"].mixer.wq,
        second.layers[0].sublayers["sequence_mixer"].mixer.wq,
    )


def test_generation_continues_the_prompt_and_depends_on_the_seed_only() -> None:
    model = build(specs(1)[0], seed=2)
    text = tokens(5, batch=3)
    greedy = model.generate(text, 9)
    assert greedy.shape == (3, 9)
    assert torch.equal(greedy[:, 0], model(text)[:, -1].argmax(-1))
    drawn = [
        model.generate(text, 9, temperature=1.0, dice=torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    ]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_shared_sizes_and_open_layers_find_their_weights() -> None:
    width = one_of(1, 2, name="kv")
    layer = Layer(
        sequence_mixer=Attention(num_heads=2, num_kv_heads=width, head_dim=8),
        channel_mixer=one_of(None, SwiGLU()),
    )
    space = Space(Decoder(vocab=11, d_model=one_of(8, 16), layers=repeat(layer, (1, 2))))
    supernet, dice = Supernet(space), Random(0)
    for _ in range(10):
        subnet = supernet.subnet(space.close(space.sample(dice)))
        text = torch.arange(11)[None]
        assert torch.equal(subnet(text), subnet.extract()(text))
