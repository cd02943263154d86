"""Soft masks, formats and norms of a mixture against the sums that they stand for, written out."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import Tensor

from search_spaces.blocks.attention import Attention
from search_spaces.blocks.gelu_mlp import MLP
from search_spaces.blocks.short_conv import ShortConv
from search_spaces.blocks.skip import Skip
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.mixture.masked_blocks import Carrier, Format, Shared, SoftParameter, Weighted
from search_spaces.mixture.mixed_norms import mixed_norm, mixed_scores
from search_spaces.mixture.stand_ins import Variant, grouped, stands_in
from search_spaces.network.norms.base import Norm
from search_spaces.network.norms.layer_norm import LayerNorm
from search_spaces.network.norms.rms_norm import RMSNorm
from search_spaces.quantization.bits import WeightFormat
from search_spaces.quantization.rounding import round_to_bits
from tests.search_spaces.networks import NORMS

PLAIN = WeightFormat()
WIDE, NARROW = WeightFormat(8), WeightFormat(3)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def weighted(*values: float) -> Weighted:
    return Weighted(torch.tensor(values, dtype=torch.float64), list(values))


def formats(*shares: tuple[WeightFormat, float]) -> list[Format]:
    return [Format(stored, torch.tensor(share, dtype=torch.float64), share) for stored, share in shares]


def padded(part: Tensor, shape: tuple[int, ...]) -> Tensor:
    """A leading slice in a tensor of zeros."""
    whole = torch.zeros(shape, dtype=part.dtype)
    whole[tuple(map(slice, part.shape))] = part
    return whole


def expected(values: Tensor, shapes: list[tuple[int, ...]], sizes: Weighted, kinds: list[Format]) -> Tensor:
    """The sum over sizes and formats of each slice, rounded by itself."""
    total = torch.zeros(shapes[0], dtype=values.dtype)
    for share, shape in zip(sizes.values, shapes, strict=True):
        part = values[tuple(map(slice, shape))]
        matrix = len(shape) > 1 and shape[-1] >= 8
        for kind in kinds:
            total += (
                share * kind.value * padded(round_to_bits(part, kind.stored) if matrix else part, shapes[0])
            )
    return total


SHAPES: list[list[tuple[int, ...]]] = [
    [(12, 16)],
    [(12, 16), (7, 16)],
    [(12, 16), (12, 9)],
    [(12, 16), (7, 16), (12, 9), (5, 9)],
    [(3, 4, 16), (2, 4, 11), (3, 1, 16)],
]


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
@pytest.mark.parametrize("kinds", [formats((PLAIN, 1.0)), formats((WIDE, 0.25), (NARROW, 0.75))])
def test_a_soft_parameter_is_the_weighted_sum_of_its_rounded_slices(
    shapes: list[tuple[int, ...]], kinds: list[Format]
) -> None:
    values = random(4, 14, 20)[0] if len(shapes[0]) == 2 else random(4, 5, 20)
    shares = torch.linspace(1, 2, len(shapes)).softmax(0).tolist()
    sizes, soft = weighted(*shares), SoftParameter("key", shapes)
    mixed = soft.value(Shared({"key": values}), sizes, kinds)
    assert mixed.shape == shapes[0]
    torch.testing.assert_close(mixed, expected(values, shapes, sizes, kinds), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("place", range(4))
def test_all_weight_on_one_size_is_its_slice_and_zeros(place: int) -> None:
    shapes, values = SHAPES[3], random(12, 16)
    sizes = weighted(*(float(i == place) for i in range(4)))
    mixed = SoftParameter("key", shapes).value(Shared({"key": values}), sizes, formats((PLAIN, 1.0)))
    part = round_to_bits(values[tuple(map(slice, shapes[place]))], PLAIN)
    assert torch.equal(mixed, padded(part, shapes[0]))


def test_a_vector_is_not_rounded_and_a_format_without_a_share_not_computed() -> None:
    values, soft = random(10), SoftParameter("key", [(10,), (6,)])
    kinds = formats((NARROW, 1.0), (WIDE, 0.0))
    mixed = soft.value(Shared({"key": values}), weighted(0.5, 0.5), kinds)
    torch.testing.assert_close(mixed, torch.cat((values[:6], values[6:] / 2)))


def test_a_shift_is_added_behind_the_rounding() -> None:
    values, shift = random(12, 16), random(12, 16, seed=1)
    shared = Shared({"key": values}, {"key": shift})
    index = (slice(7), slice(9))
    assert torch.equal(shared.plain("key", index), values[index] + shift[index])
    assert torch.equal(
        shared.rounded("key", index, NARROW), round_to_bits(values[index], NARROW) + shift[index]
    )


def test_a_memo_keeps_what_was_rounded_by_key_shape_and_format() -> None:
    values = random(12, 16)
    memo: dict[object, Tensor] = {}
    shared = Shared({"key": values}, memo=memo)
    for columns, stored in product((9, 16), (WIDE, NARROW)):
        index = (slice(12), slice(columns))
        once = shared.rounded("key", index, stored)
        assert shared.rounded("key", index, stored) is once
        assert torch.equal(once, round_to_bits(values[index], stored))
    assert len(memo) == 4


@pytest.mark.parametrize("norm", NORMS, ids=lambda norm: type(norm).__name__)
def test_a_mixed_norm_is_the_sum_over_widths_padded(norm: Norm) -> None:
    x, vectors = random(2, 3, 12), {name: random(12, seed=i) for i, name in enumerate(norm.vectors)}
    shares = torch.tensor([0.3, 0.7], dtype=torch.float64)
    mixed = mixed_norm(
        x, [(norm, None)], [(12, shares[0]), (7, shares[1])], vector=lambda n: vectors[n], padded_to=12
    )
    whole = norm.apply(x, (12,), list(vectors.values()))
    part = norm.apply(x[..., :7], (7,), [vector[:7] for vector in vectors.values()])
    torch.testing.assert_close(mixed, 0.3 * whole + 0.7 * torch.nn.functional.pad(part, (0, 5)))


def test_norms_are_mixed_by_their_shares() -> None:
    x, vectors = random(4, 8), {"norm": random(8), "norm_bias": random(8, seed=1)}
    norms = [(RMSNorm(), torch.tensor(0.25)), (LayerNorm(), torch.tensor(0.75))]
    mixed = mixed_norm(x, norms, [(8, None)], vector=lambda name: vectors[name], padded_to=8)
    first = RMSNorm().apply(x, (8,), [vectors["norm"]])
    second = LayerNorm().apply(x, (8,), [vectors["norm"], vectors["norm_bias"]])
    torch.testing.assert_close(mixed, 0.25 * first + 0.75 * second)
    scores = mixed_scores(x, norms, [(8, None)], vectors["norm"])
    plain = [norm.apply(x, (8,)) @ vectors["norm"] for norm, _ in norms]
    torch.testing.assert_close(scores, 0.25 * plain[0] + 0.75 * plain[1])


VARIANTS: list[list[Variant]] = [
    [(SwiGLU(expansion=e), d) for e, d in product((2, 1), (9, 6))],
    [(ShortConv(kernel=k), d) for k, d in product((4, 2), (9, 6))],
    [(MLP(expansion=e), 8) for e in (3, 1.5)],
]


@pytest.mark.parametrize("variants", VARIANTS, ids=lambda v: type(v[0][0]).__name__)
def test_a_carrier_computes_the_variant_that_has_all_weight(variants: list[Variant]) -> None:
    carrier, site = Carrier("site", variants, ""), "site.mixer."
    block, d_model = variants[0]
    weights = {site + name: random(*p.shape, seed=3) for name, p in block.build(d_model).named_parameters()}
    shared, x = Shared(weights), random(2, 5, d_model, seed=4)
    for place, (variant, width) in enumerate(variants):
        sizes = weighted(*(float(i == place) for i in range(len(variants))))
        own = carrier.weights(shared, sizes, formats((WIDE, 1.0)))
        inner = torch.nn.functional.pad(x[..., :width], (0, d_model - width))
        mixed = carrier(inner, own).y
        alone = variant.build(width).double()
        with torch.no_grad():
            for name, parameter in alone.named_parameters():
                index = tuple(map(slice, parameter.shape))
                parameter.copy_(shared.rounded(site + name, index, WIDE))
        torch.testing.assert_close(mixed[..., :width], alone(x[..., :width]).y, rtol=1e-9, atol=1e-9)
        assert not mixed[..., width:].any()
    assert all(p.device.type == "meta" for p in carrier.module.parameters())


def test_what_stands_in_has_the_same_kind_and_is_nowhere_smaller() -> None:
    assert stands_in((Skip(), 9), (Skip(), 5))
    assert not stands_in((SwiGLU(), 8), (MLP(), 8))
    assert not stands_in((SwiGLU(), 8), (SwiGLU(), 9))
    assert not stands_in(
        (Attention(num_heads=4, num_kv_heads=4, head_dim=4), 8),
        (Attention(num_heads=4, num_kv_heads=2, head_dim=4), 8),
    )


def test_groups_hold_every_variant_once_behind_one_that_stands_in_for_it() -> None:
    variants: list[Variant] = [
        *((SwiGLU(expansion=e), d) for e, d in product((1, 2), (6, 9))),
        *((Attention(num_heads=2, num_kv_heads=k, head_dim=4), 9) for k in (1, 2)),
    ]
    groups = grouped(variants)
    assert sorted(i for group in groups for i in group) == list(range(len(variants)))
    for first, *rest in groups:
        assert all(stands_in(variants[first], variants[i]) for i in rest)
    heads = [first for first, *_ in groups]
    assert not any(stands_in(variants[a], variants[b]) for a in heads for b in heads if a != b)
