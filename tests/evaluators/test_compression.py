"""Rounding and pruning with calibration: formats, parity with independent forms, and what is seen."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from evaluators.compression.awq import scaled_inputs
from evaluators.compression.calibration import LayerByLayer, Part, second_moments, tiled, times_read
from evaluators.compression.gptq import NEAR, gptq
from evaluators.compression.pruning import kept_by_magnitude, kept_by_wanda
from evaluators.compression.rotation import hadamard, not_rotated, rotated
from evaluators.compression.sparse_gpt import sparse_gpt
from nas.modifier_checks.rounding import surgeon
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.base import Block, blocks
from search_spaces.blocks.moe import MoE
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.model import Model, build
from search_spaces.network.norms.layer_norm import LayerNorm
from search_spaces.network.options.mixture_of_depths import MixtureOfDepths
from search_spaces.network.weight_formats import weight_bits
from search_spaces.quantization.bits import Bits, WeightFormat
from search_spaces.quantization.rounding import TIGHTER, round_to_bits

ATTENTION = Attention(num_heads=2, num_kv_heads=2, head_dim=8)


def correlated(samples: int, width: int, seed: int = 0) -> Tensor:
    """Inputs [samples, width] of which some directions are large, as activations are."""
    dice = torch.Generator().manual_seed(seed)
    mixing = torch.randn(max(2, width // 4), width, generator=dice)
    hidden = torch.randn(samples, len(mixing), generator=dice)
    return hidden @ mixing + 0.3 * torch.randn(samples, width, generator=dice)


def moment_of(x: Tensor) -> Tensor:
    return x.double().mT @ x.double()


def output_error(weight: Tensor, rounded: Tensor, x: Tensor) -> float:
    return float((x @ (rounded - weight).mT).norm())


@given(
    bits=st.sampled_from((8, 6, 4, 3, 2)),
    group=st.sampled_from((32, 64)),
    width=st.integers(8, 80),
    seed=st.integers(0, 1000),
)
def test_rounding_again_changes_nothing_and_pruned_weights_stay_zero(
    bits: int, group: int, width: int, seed: int
) -> None:
    weight = torch.randn(5, width, generator=torch.Generator().manual_seed(seed))
    weight[1], weight[2, ::2] = 0, 0
    stored = WeightFormat(bits, group)
    rounded = gptq(weight, {Part(0, 5, width): moment_of(correlated(30, width, seed))}, stored)
    assert torch.equal(round_to_bits(rounded, stored), rounded)
    assert not rounded[weight == 0].any()


@pytest.mark.parametrize("bits", [4, 3, 2])
def test_gptq_changes_outputs_less_than_rounding_to_nearest(bits: int) -> None:
    weight, x = torch.randn(32, 96), correlated(400, 96)
    stored = WeightFormat(bits, 32)
    rounded = gptq(weight, {Part(0, 32, 96): moment_of(x)}, stored)
    nearest = round_to_bits(weight, stored)
    assert output_error(weight, rounded, x) < 0.6 * output_error(weight, nearest, x)


@given(seed=st.integers(0, 99))
def test_gptq_takes_for_each_row_the_scales_that_are_nearer_in_the_end(seed: int) -> None:
    weight = torch.randn(16, 64, generator=torch.Generator().manual_seed(seed)) ** 3  # some values far out
    moment, stored = moment_of(correlated(200, 64, seed)), WeightFormat(4, 16)

    def errors(ratios: tuple[float, ...] | None) -> Tensor:
        with pytest.MonkeyPatch.context() as patched:
            for name in ("NEAR", "TIGHTER") if ratios else ():
                patched.setattr(f"evaluators.compression.gptq.{name}", ratios)
            off = (gptq(weight, {Part(0, 16, 64): moment}, stored) - weight).double()
        return (off @ moment.double() * off).sum(-1)

    near, clipped = errors(NEAR), errors(TIGHTER)
    torch.testing.assert_close(errors(None), torch.minimum(near, clipped))


def test_gptq_equals_the_optimal_brain_surgeon_step_by_step() -> None:
    weight, moment = torch.randn(6, 24), moment_of(correlated(200, 24))
    rounded = gptq(weight, {Part(0, 6, 24): moment}, WeightFormat(8, 32))
    torch.testing.assert_close(rounded, surgeon(weight, moment, 0.01))


def test_wanda_equals_its_formula_row_by_row() -> None:
    weight, x = torch.randn(6, 24), correlated(100, 24)
    kept = kept_by_wanda(weight, {Part(0, 6, 24): moment_of(x)}, 0.5)
    norms = x.norm(dim=0)
    for row, mask in zip(weight, kept, strict=True):
        assert set(mask.nonzero()[:, 0].tolist()) == set((row.abs() * norms).topk(12).indices.tolist())


def test_magnitude_compares_all_weights_of_a_matrix() -> None:
    weight = torch.randn(4, 3, 10)
    kept = kept_by_magnitude(weight, 0.25)
    assert int((~kept).sum()) == 30
    assert weight[~kept].abs().max() <= weight[kept].abs().min()


@given(stay=st.integers(1, 3), width=st.integers(4, 33), seed=st.integers(0, 99))
def test_a_pattern_keeps_the_largest_of_its_neighbours(stay: int, width: int, seed: int) -> None:
    weight = torch.randn(3, width, generator=torch.Generator().manual_seed(seed))
    kept = kept_by_magnitude(weight, 0.9, (stay, 4))
    whole = width // 4 * 4
    groups = weight[:, :whole].unflatten(-1, (-1, 4)).abs()
    assert (kept[:, :whole].unflatten(-1, (-1, 4)).sum(-1) == stay).all()
    assert kept[:, whole:].all()
    least = groups.masked_fill(~kept[:, :whole].unflatten(-1, (-1, 4)), 9.0).amin(-1)
    lost = groups.masked_fill(kept[:, :whole].unflatten(-1, (-1, 4)), 0.0).amax(-1)
    assert (lost <= least).all()


def optimal_brain_surgeon(weight: Tensor, moment: Tensor, damp: float, stay: int, of: int) -> Tensor:
    """The same in a fixed order, N of M: the inverse of what is left is taken anew each time."""
    weight = weight.double().clone()
    hessian = moment + damp * moment.diagonal().mean() * torch.eye(len(moment), dtype=torch.float64)
    for j in range(weight.shape[1]):
        inverse = torch.linalg.inv(hessian[j:, j:])
        if j % of == 0:
            ahead = torch.stack([torch.linalg.inv(hessian[k:, k:])[0, 0] for k in range(j, j + of)])
            goes = (weight[:, j : j + of].square() / ahead).argsort(-1)[:, : of - stay] + j
        error = torch.where((goes == j).any(-1), weight[:, j], 0.0)
        weight[:, j:] -= error[:, None] * inverse[0] / inverse[0, 0]
    return weight.float()


def test_sparsegpt_equals_the_optimal_brain_surgeon_step_by_step() -> None:
    weight, moment = torch.randn(6, 24), moment_of(correlated(200, 24))
    pruned = sparse_gpt(weight, {Part(0, 6, 24): moment}, 0.5, (2, 4))
    torch.testing.assert_close(
        pruned, optimal_brain_surgeon(weight, moment, 0.01, 2, 4), atol=1e-5, rtol=1e-4
    )


@pytest.mark.parametrize("pattern", [None, (2, 4)])
def test_sparsegpt_changes_outputs_less_than_wanda_and_magnitude(
    pattern: tuple[int, int] | None,
) -> None:
    weight, x = torch.randn(32, 300), correlated(900, 300)
    parts = {Part(0, 32, 300): moment_of(x)}
    pruned = sparse_gpt(weight, parts, 0.5, pattern)
    assert int((pruned == 0).sum()) == 32 * 150
    by_wanda = weight * kept_by_wanda(weight, parts, 0.5, pattern)
    by_magnitude = weight * kept_by_magnitude(weight, 0.5, pattern)
    errors = [output_error(weight, other, x) for other in (pruned, by_wanda, by_magnitude)]
    assert errors[0] < 0.7 * min(errors[1:])


def network(sequence: object = ATTENTION, channels: object = None, **settings: object) -> Model:
    layer = Layer(sequence_mixer=sequence, channel_mixer=channels)  # type: ignore[arg-type]
    spec = Decoder(vocab=64, d_model=32, layers=(layer,), **settings)  # type: ignore[arg-type]
    return build(spec, seed=1).eval()


def test_second_moments_are_those_of_the_inputs() -> None:
    model, tokens = network(channels=SwiGLU()), torch.randint(0, 64, (11, 16))
    moments = second_moments(model, tokens)
    layer = model.decoder_layers[0]
    with torch.no_grad():
        x = model.embed(tokens)
        read = layer.sublayers["sequence_mixer"].normed(x).flatten(0, 1)
    ((part, moment),) = moments["layers.0.sequence_mixer.mixer.wq"].items()
    assert part == Part(0, 16, 32)
    torch.testing.assert_close(moment, moment_of(read), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("more", [{}, {"shared": "one"}], ids=["each once", "shared"])
def test_layer_by_layer_are_the_moments_of_the_whole_network_as_it_is(more: dict[str, Any]) -> None:
    each: tuple[dict[str, Any], ...] = (
        {},
        {"routing": MixtureOfDepths(capacity=0.5)},
        {"parallel": True, "reads_embedding": True},
    )
    layers = tuple(Layer(sequence_mixer=ATTENTION, channel_mixer=SwiGLU(), **(more or own)) for own in each)
    model = build(Decoder(vocab=64, d_model=32, layers=layers), seed=1).eval()
    tokens = torch.randint(0, 64, (11, 16))
    reading = LayerByLayer(model, tokens)
    for index in range(3):
        names = [name for name, _ in model.named_parameters() if name.startswith(f"layers.{index}.")]
        found, expected = reading.moments(index, names), second_moments(model, tokens, names.__contains__)
        assert found.keys() == expected.keys()
        for name, parts in expected.items():
            for part, moment in parts.items():
                torch.testing.assert_close(found[name][part], moment, rtol=1e-6, atol=1e-6)
            with torch.no_grad():  # what follows reads what this layer puts out now
                model.get_parameter(name).mul_(0.5)
    assert times_read(model.spec) == (3 if more else 2)


def test_experts_have_moments_of_their_own() -> None:
    model = network(channels=MoE(num_experts=3, top_k=1))
    moments = second_moments(model, torch.randint(0, 64, (16, 16)))
    parts = moments["layers.0.channel_mixer.mixer.up"]
    assert len(parts) == 3
    assert tiled(dict(model.named_parameters())["layers.0.channel_mixer.mixer.up"], parts)
    assert len({float(moment.trace()) for moment in parts.values()}) == 3


UNSEEN = {"SLSTM": ["recurrent"]}
"""Matrices that are multiplied by a state inside a kernel."""


@pytest.mark.parametrize("name", list(blocks))
def test_the_inputs_of_every_matrix_of_every_block_are_seen(name: str) -> None:
    block = blocks[name].examples()[0]
    model = network(block) if block.mixes == "sequence" else network(ATTENTION, block)
    moments = second_moments(model, torch.randint(0, 64, (16, 40)))
    parameters, roles = dict(model.named_parameters()), model.roles()
    unseen = [
        path.rpartition(".")[2]
        for path, stored in weight_bits(model).items()
        if stored is not None
        and path.startswith("layers.")
        and roles[path].kind == "matrix"
        and not tiled(parameters[path], moments.get(path, {}))
    ]
    assert unseen == UNSEEN.get(name, [])


@pytest.mark.parametrize("norm", [None, LayerNorm()])
def test_scaled_inputs_leave_the_function_as_it_was(norm: LayerNorm | None) -> None:
    torch.manual_seed(3)
    model = network(channels=SwiGLU(), **({} if norm is None else {"norm": norm}))
    with torch.no_grad():
        model.embedding[:, ::7] *= 20  # a few channels are large, as in trained networks
    tokens = torch.randint(0, 64, (8, 16))
    names = [name for name in weight_bits(model) if name.startswith("layers.") and "norm" not in name]
    moments = second_moments(model, tokens, set(names).__contains__)
    before = model(tokens)
    count = scaled_inputs(model, moments, dict.fromkeys(names, Bits(weight=3, group=32).stored))
    assert count >= 2
    torch.testing.assert_close(model(tokens), before, rtol=1e-4, atol=1e-4)
    again = second_moments(model, tokens, set(names).__contains__)
    for name, parts in moments.items():
        for part, moment in parts.items():
            torch.testing.assert_close(again[name][part], moment, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("width", [1, 6, 32])
def test_a_rotation_is_orthogonal_and_spreads_every_channel(width: int) -> None:
    turn = hadamard(width, 3)
    torch.testing.assert_close(turn @ turn.mT, torch.eye(width, dtype=torch.float64))
    if width == 32:
        torch.testing.assert_close(turn.abs(), torch.full_like(turn, 32**-0.5))


@pytest.mark.parametrize("name", list(blocks))
def test_a_rotated_network_of_every_block_is_refused_or_the_same(name: str) -> None:
    torch.manual_seed(5)
    block = blocks[name].examples()[0]
    model = network(block) if block.mixes == "sequence" else network(ATTENTION, block)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
        model.embedding[:, 5] *= 30
    if not_rotated(model.spec):
        return
    tokens = torch.randint(0, 64, (2, 20))
    turned = rotated(model)
    assert turned.embedding.abs().amax() < 0.5 * model.embedding.abs().amax()
    torch.testing.assert_close(turned(tokens), model(tokens), rtol=1e-3, atol=2e-3)


def test_most_usual_blocks_can_be_rotated() -> None:
    able = {name for name in blocks if not not_rotated(network_spec(blocks[name].examples()[0]))}
    assert able >= {"Attention", "Mamba2", "GatedDeltaNet", "SwiGLU", "MLP", "MoE", "Mamba", "RGLRU"}
    assert not able & {"S4D", "RWKV6"}
    ternary = Layer(sequence_mixer=ATTENTION, bits=Bits(weight=1.58, activation=8))
    assert "1.58 bits" in not_rotated(Decoder(vocab=64, d_model=32, layers=(ternary,)))


def network_spec(block: Block) -> Decoder:
    parts = (block, None) if block.mixes == "sequence" else (ATTENTION, block)
    return network(*parts).spec
