"""Layers whose tokens choose the bits of the channel mixer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from torch import Tensor

from foundation.errors import IllegalArchitecture
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.gelu_mlp import MLP
from search_spaces.blocks.mamba2 import Mamba2
from search_spaces.blocks.moe import MoE
from search_spaces.blocks.rwkv_channel_mix import RWKVChannelMix
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.choices import one_of
from search_spaces.language.space import Space
from search_spaces.network.cost import rounded_parameters
from search_spaces.network.decoder import PLACES, Decoder, Layer
from search_spaces.network.model import Model, build
from search_spaces.network.model_files import load_model, save_model
from search_spaces.network.options.adaptive_precision import AdaptivePrecision
from search_spaces.network.options.early_exit import EarlyExit
from search_spaces.network.options.mixture_of_depths import MixtureOfDepths
from search_spaces.network.programs import export_programs, flat_state
from search_spaces.quantization.bits import Bits, WeightFormat
from search_spaces.quantization.kernels import EMULATED, kernels_of, with_real_kernels
from search_spaces.quantization.leading_bits import FEWER, INTEGERS, leading_bits
from search_spaces.quantization.packing import pack, unpack, unpack_codes
from search_spaces.scenario import Scenario
from search_spaces.supernet import Supernet

ATTENTION = Attention(num_heads=2, num_kv_heads=1, head_dim=8)
MAMBA = Mamba2(num_heads=2, head_dim=8, state_dim=8)
SMALL = AdaptivePrecision(low=2, share=0.5)
LAYER = Layer(
    sequence_mixer=ATTENTION, channel_mixer=SwiGLU(expansion=2), bits=Bits(weight=8), precision=SMALL
)


def network(*layers: dict[str, Any]) -> Decoder:
    return Decoder(vocab=13, d_model=16, layers=tuple(replace(LAYER, **layer) for layer in layers))


SPECS = {
    "hybrid": network({}, {"sequence_mixer": MAMBA, "precision": None}, {"sequence_mixer": MAMBA}),
    "experts": network({"channel_mixer": MoE(num_experts=3, top_k=2)}, {}),
    "halves side by side": network({"parallel": True}, {"channel_mixer": MLP(), "reads_embedding": True}),
    "behind a router": network({}, {"routing": MixtureOfDepths(capacity=0.5)}),
    "with an exit": network({"exit": EarlyExit(threshold=0.93)}, {}),
    "shared": network({"shared": "a"}, {"shared": "a"}),
    "other bits": network({"bits": Bits(weight=16), "channel_bits": Bits(weight=4, group=32, activation=8)}),
}
every = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)


def text(batch: int, count: int) -> Tensor:
    return torch.randint(13, (batch, count), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("bits", INTEGERS)
def test_the_leading_bits_of_what_is_stored_say_the_values(bits: int) -> None:
    weight = torch.randn(5, 70, generator=torch.Generator().manual_seed(1))
    stored = WeightFormat(bits, 32)
    packed = pack(weight, stored)
    values, codes = unpack(packed, stored, 70, weight.dtype), unpack_codes(packed, stored, 70)
    scale = packed[".scale"].float().repeat_interleave(32, -1)[:, :70]
    for low in [low for low in FEWER if low < bits]:
        leading = codes >> (bits - low)
        span = 2 ** (bits - low)
        expected = scale * (leading * span + (span - 1) / 2)
        assert torch.equal(leading_bits(values, stored, low), expected)
        assert torch.equal(leading_bits(weight, stored, low), expected)
        assert len(leading.unique()) <= 2**low
        step = span * scale.abs()
        assert ((values - expected).abs() <= step / 2).all()


def test_gradients_pass_straight_through_leading_bits() -> None:
    weight = torch.randn(3, 16, requires_grad=True)
    leading_bits(weight, WeightFormat(8), 2).sum().backward()
    assert weight.grad is not None
    assert torch.equal(weight.grad, torch.ones(3, 16))


@every
@torch.no_grad()
def test_decode_equals_prefill_in_one_piece_or_several(spec: Decoder) -> None:
    model, tokens = build(spec).double().eval(), text(3, 60)
    whole = model(tokens)
    first, state = model.prefill(tokens[:, :23])
    pieces = [first]
    for t in range(23, 40):
        logits, state = model.step(tokens[:, t], state)
        pieces.append(logits[:, None])
    pieces.append(model.prefill(tokens[:, 40:], state)[0])
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(model(tokens[:, :11]), whole[:, :11], rtol=1e-9, atol=1e-9)  # no future


@torch.no_grad()
def test_a_token_is_what_its_precision_says() -> None:
    """Where all scores have one sign, the network is that of these bits alone."""
    spec, tokens = network({}), text(2, 20)
    model, metrics = build(spec).eval(), dict[str, Tensor]()
    whole, low = (build(replace(spec, layers=(replace(LAYER, precision=None),))).eval() for _ in range(2))
    for name, weight in low.named_parameters():
        if name.startswith("layers.0.channel_mixer.mixer."):
            weight.copy_(leading_bits(weight, WeightFormat(8), 2))
    for name, weight in [*low.named_parameters(), *whole.named_parameters()]:
        if "channel" not in name:
            weight.copy_(model.get_parameter(name))
    logits = model(tokens, metrics=metrics)
    share = float(metrics["layers.0.channel_mixer.precision.share"])
    assert 0 < share < 1
    same = [(logits == other(tokens)).all(-1) for other in (whole, low)]
    assert float(same[0].float().mean()) == pytest.approx(share)
    assert (same[0] ^ same[1]).all()


@every
def test_everything_learns_and_the_share_of_the_budget_is_chosen(spec: Decoder) -> None:
    model, losses = build(spec, seed=1).train(), list[Tensor]()
    model(text(2, 32), losses).logsumexp(-1).mean().backward(retain_graph=True)
    routers = {n: p for n, p in model.named_parameters() if n.endswith("precision.weight")}
    assert all(p.grad is not None and p.grad.any() for p in routers.values())  # not by its loss alone
    sum(losses).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def test_a_router_learns_its_budget() -> None:
    spec = network({"precision": AdaptivePrecision(low=3, share=0.25, balance=1.0)})
    model, tokens = build(spec), text(8, 64)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(80):
        losses: list[Tensor] = []
        logits = model(tokens, losses)
        loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        (loss + sum(losses)).backward()
        optimizer.step()
    metrics: dict[str, Tensor] = {}
    with torch.no_grad():
        model.eval()(tokens, metrics=metrics)
    assert 0.15 < float(metrics["layers.0.channel_mixer.precision.share"]) < 0.35


@torch.no_grad()
def test_what_was_kept_of_weights_is_made_anew_when_they_change() -> None:
    model, tokens = build(network({})).eval(), text(2, 20)
    before = model(tokens)
    assert torch.equal(model(tokens), before)
    model.get_parameter("layers.0.channel_mixer.mixer.up").mul_(-1)
    after = model(tokens)
    assert not torch.equal(after, before)
    fresh = build(model.spec).eval()
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(fresh(tokens), after)
    torch.testing.assert_close(model.double()(tokens), after.double(), rtol=1e-3, atol=1e-3)


def test_slices_are_their_copies_and_files(tmp_path: Path) -> None:
    part = replace(
        LAYER,
        channel_mixer=one_of(SwiGLU(expansion=one_of(1, 2)), MLP(expansion=1)),
        bits=Bits(weight=one_of(8, 4)),
        precision=one_of(None, AdaptivePrecision(low=one_of(2, 3), share=one_of(0.25, 0.5))),
    )
    space = Space(Decoder(vocab=13, d_model=one_of(8, 16), layers=(part,) * 2))
    supernet, dice, seen = Supernet(space), Random(0), set[Any]()
    with torch.no_grad():
        for weight in supernet.parameters():
            weight.normal_(generator=torch.Generator().manual_seed(weight.numel()), std=0.3)
        for number in range(10):
            spec = space.close(space.sample(dice))
            subnet = supernet.subnet(spec)
            copy = subnet.extract().eval()
            subnet.module.eval()
            sliced = subnet(text(2, 30))
            assert torch.equal(sliced, copy(text(2, 30)))
            stored = load_model(save_model(copy, tmp_path / str(number)))
            assert stored.spec == spec
            torch.testing.assert_close(stored(text(2, 30)), sliced)
            seen |= {layer.precision for layer in spec.layers}
    assert len(seen) > 3


@torch.no_grad()
def test_what_a_block_keeps_exact_has_no_leading_bits() -> None:
    """Biases of experts have two axes; their block keeps them in 32 bits."""
    experts = MoE(num_experts=3, top_k=2, expansion=2, activation="clamped_silu", biases=True)
    model = build(network({"channel_mixer": experts}), seed=1)
    layer = model.layers[0]
    mixer = layer.sublayers[PLACES[1]].mixer
    for weight in mixer.parameters():
        weight.uniform_(-1, 1)
    before = {name: weight.clone() for name, weight in mixer.named_parameters()}
    with layer.precision.lowered(layer.sublayers[PLACES[1]]):
        now = {name: getattr(mixer, name).clone() for name in before}
    changed = {name for name in before if not torch.equal(before[name], now[name])}
    assert {"up_bias", "gated_bias", "down_bias"}.isdisjoint(changed)
    assert changed == {name for name in before if name in rounded_parameters(experts, 16)}
    assert changed


def test_one_set_of_codes_is_stored_and_one_product_needed() -> None:
    scenario = Scenario(prompt=50, new_tokens=10)
    plain, adaptive = (network({"precision": p}).cost(scenario) for p in (None, SMALL))
    assert adaptive.params - plain.params == 16
    assert adaptive.weight_bytes - plain.weight_bytes == 4 * 16
    assert adaptive.decode_flops - plain.decode_flops == 2 * 16
    assert adaptive.prefill_flops - plain.prefill_flops == 50 * 2 * 16
    assert adaptive.state_bytes == plain.state_bytes


@torch.no_grad()
def test_its_programs_compute_what_it_does() -> None:
    model, tokens = build(network({})).eval(), text(2, 16)
    programs = export_programs(model, prompt=16, capacity=24)
    logits, *state = programs.prefill.module()(tokens)
    expected, own = model.prefill(tokens, capacity=24)
    torch.testing.assert_close(logits, expected)
    stepped, *_ = programs.step.module()(tokens[:, 0], torch.tensor(16), *state)
    torch.testing.assert_close(stepped, model.step(tokens[:, 0], own)[0])
    assert len(state) == len(flat_state(model, own.layers))


@torch.no_grad()
def test_weights_that_no_kernel_reads_at_fewer_bits_are_listed_as_emulated() -> None:
    model: Model = build(network({}, {"precision": None})).eval()
    real = with_real_kernels(model)
    kernels = kernels_of(real)
    assert {kernels[f"layers.0.channel_mixer.mixer.{name}"] for name in ("gated", "up", "down")} == {EMULATED}
    torch.testing.assert_close(real(text(2, 9)), model(text(2, 9)), rtol=0.1, atol=0.1)


NEEDS = "AdaptivePrecision needs a channel mixer that remembers nothing, and the layer has"
ILLEGAL = [
    ({"precision": AdaptivePrecision(low=5)}, "AdaptivePrecision: low must be one of (6, 4, 3, 2), got 5"),
    ({"precision": AdaptivePrecision(share=0)}, "AdaptivePrecision: share must be in (0, 1], got 0"),
    ({"precision": AdaptivePrecision(balance=0)}, "AdaptivePrecision: balance must be positive, got 0"),
    ({"precision": 4}, "expected AdaptivePrecision or None, got 4"),
    ({"channel_mixer": None}, f"{NEEDS} no channel mixer"),
    ({"channel_mixer": RWKVChannelMix()}, f"{NEEDS} RWKVChannelMix, which has a state"),
    *[
        (
            {"channel_bits": bits},
            "AdaptivePrecision(low=2) reads leading bits of integers, so the channel mixer needs weights of"
            f" 8 or 6 or 4 or 3 bits, got {bits}",
        )
        for bits in (Bits(), Bits(weight=2), Bits(weight=1.58), Bits(weight=8, numbers="float"))
    ],
]


@pytest.mark.parametrize(("layer", "message"), ILLEGAL, ids=[message for _, message in ILLEGAL])
def test_what_cannot_be_is_refused_by_name(layer: dict[str, Any], message: str) -> None:
    with pytest.raises(IllegalArchitecture) as error:
        network(layer).check()
    assert str(error.value) == f"layers.0: {message}"
