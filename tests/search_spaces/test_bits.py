"""Rounding to bits, packing, exported files, activations, and the state codec."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.overrides import TorchFunctionMode

from foundation.errors import IllegalArchitecture, SettingError
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.base import Block, StateShape, blocks
from search_spaces.blocks.latent_attention import LatentAttention
from search_spaces.blocks.mamba2 import Mamba2
from search_spaces.blocks.moe import MoE
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.choices import one_of
from search_spaces.language.serialization import from_json, from_plain, to_json, to_plain
from search_spaces.language.space import Space
from search_spaces.network.decoder import Decoder, Layer, strip
from search_spaces.network.export import load_model, save_model
from search_spaces.network.model import build
from search_spaces.network.residual import Residual
from search_spaces.ops.experts import expert_mixture, expert_mixture_fetched, expert_mixture_plainly, route
from search_spaces.ops.linear import linear_per_head, multiplied_elsewhere
from search_spaces.quantization.activations import RoundedActivations, round_activations
from search_spaces.quantization.bits import (
    GROUPS,
    SCALE_SUFFIX,
    TERNARY,
    WEIGHT_BITS,
    Bits,
    StateCodec,
    WeightFormat,
    is_matrix,
    pack,
    round_all,
    round_to_bits,
    state_bytes,
    unpack,
    unpack_codes,
    weight_bytes,
)
from search_spaces.scenario import Scenario
from search_spaces.supernet import Supernet

EXAMPLES = [spec for kind in blocks.values() for spec in kind.examples()]
MULTIPLY = (torch.bmm, torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.einsum, torch.mm, torch.baddbmm)
shapes = st.tuples(st.integers(1, 5), st.integers(8, 150))
FLOAT8 = WeightFormat(8, numbers="float")
formats = st.builds(WeightFormat, st.sampled_from(WEIGHT_BITS), st.sampled_from(GROUPS[:4])) | st.just(FLOAT8)
STEP = {6: 1 / 31, 4: 1 / 7, 8: 1 / 127, 16: 2**-7}
"""The distance of neighbouring values, where the largest value is always kept."""

ERROR = {8: 4e-5, 6: 7e-4, 4: 0.013, 3: 0.035, 2: 0.135, TERNARY: 0.28}
"""Bounds of the squared error over the square, for normal values in groups of 64, as docs/bits.md states."""


def values(shape: tuple[int, ...], seed: int, scale: float = 1.0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale


def network(*bits: Bits, vocab: int = 64, d_model: int = 40) -> Decoder:
    mixers = (Attention(num_heads=2, num_kv_heads=1, head_dim=12), Mamba2(num_heads=2, head_dim=9))
    channels = (SwiGLU(expansion=1.3), MoE(num_experts=3, top_k=2, expansion=1), None)
    layers = tuple(
        Layer(sequence_mixer=mixers[i % 2], channel_mixer=channels[i % 3], bits=b) for i, b in enumerate(bits)
    )
    return Decoder(vocab=vocab, d_model=d_model, layers=layers)


@settings(max_examples=300, deadline=None)
@given(shapes, formats, st.integers(0, 999), st.sampled_from([1e-6, 1.0, 1e4]))
def test_packed_is_what_training_saw_and_packing_again_changes_nothing(
    shape: tuple[int, int], stored: WeightFormat, seed: int, scale: float
) -> None:
    weight = values(shape, seed, scale)
    packed = pack(weight, stored)
    again = unpack(packed, stored, shape[-1], weight.dtype)
    assert torch.equal(again, round_to_bits(weight, stored))
    assert torch.equal(round_to_bits(again, stored), again)
    assert torch.equal(unpack(pack(again, stored), stored, shape[-1], weight.dtype), again)
    assert sum(t.numel() * t.element_size() for t in packed.values()) == weight_bytes(shape, stored)
    if stored.is_float8:  # half a step is a 16th of the value, or of the smallest normal one
        assert ((again - weight).abs() <= 0.063 * weight.abs() + 0.51 * weight.abs().max() / 448 / 512).all()
    elif stored.bits in STEP:
        assert (again - weight).abs().max() <= 0.51 * weight.abs().max() * STEP[int(stored.bits)]


@given(st.lists(st.tuples(shapes, formats, st.booleans()), max_size=7), st.integers(0, 999))
def test_matrices_rounded_together_are_as_by_themselves(
    asked: list[tuple[tuple[int, ...], WeightFormat, bool]], seed: int
) -> None:
    weights, formats_ = [], [stored for _, stored, _ in asked]
    for place, (shape, _, sliced) in enumerate(asked):
        large = tuple(size + 3 for size in shape) if sliced else shape
        weights.append(values(large, seed + place)[tuple(map(slice, shape))].requires_grad_())
    names = [f"weight {place}" for place in range(len(asked))]
    rounded = round_all(dict(zip(names, weights, strict=True)), dict(zip(names, formats_, strict=True)))
    found = [rounded[name] for name in names]
    for one, weight, stored in zip(found, weights, formats_, strict=True):
        assert torch.equal(one, round_to_bits(weight, stored))
        assert one.is_contiguous() or stored.bits == 16
    if len(found) > 1:
        torch.stack([place * one.sum() for place, one in enumerate(found[1:], start=1)]).sum().backward()
        assert weights[0].grad is None  # what was not used has no gradient
        for place, weight in enumerate(weights[1:], start=1):
            assert weight.grad is not None
            assert torch.equal(weight.grad, torch.full_like(weight, place))


@given(st.sampled_from([8, 6, 4, 3, 2, TERNARY]), st.integers(8, 70), st.integers(0, 99))
def test_every_code_survives_its_bytes(bits: float, width: int, seed: int) -> None:
    top = 1 if bits == TERNARY else 2 ** (int(bits) - 1) - 1
    low = -top - 1 if bits < 4 and bits != TERNARY else -top
    codes = torch.randint(low, top + 1, (3, width), generator=torch.Generator().manual_seed(seed))
    codes[0, 0], codes[0, 1] = top, low  # the ends too
    stored = WeightFormat(bits, 256)
    scale = -0.5 if low < -top else 0.5
    packed = pack(codes * scale, stored)
    found = unpack_codes(packed, stored, width) * packed[SCALE_SUFFIX].float()
    assert torch.equal(found[0], codes[0] * scale)
    assert packed[""].dtype == torch.int8
    bits_used = 8 / 5 if bits == TERNARY else bits
    assert packed[""].shape[-1] == -(-width * round(10 * bits_used) // 80)


@pytest.mark.parametrize("bits", ERROR)
def test_the_error_of_normal_weights_is_the_documented_one(bits: float) -> None:
    weight = values((500, 256), 0)
    error = (round_to_bits(weight, WeightFormat(bits)) - weight).square().sum() / weight.square().sum()
    assert 0.5 * ERROR[bits] < error < ERROR[bits]


@pytest.mark.parametrize("bits", [3, 2])
def test_searched_scales_beat_those_of_the_largest_value(bits: int) -> None:
    weight = values((50, 64), 1)
    top = 2 ** (bits - 1) - 1
    scale = weight.abs().amax(-1, keepdim=True) / top
    plain = (weight / scale).round().clamp(-top, top) * scale
    searched = round_to_bits(weight, WeightFormat(bits))
    assert (searched - weight).square().sum() < 0.6 * (plain - weight).square().sum()


@pytest.mark.parametrize("shape", [(1, 64), (4, 100)])
def test_ternary_weights_are_bitnets(shape: tuple[int, int]) -> None:
    """Equations 1 to 3 of arXiv:2402.17764, for each group instead of each matrix."""
    weight = values(shape, 3)
    found = round_to_bits(weight, WeightFormat(TERNARY, 64))
    for row, kept in zip(weight, found, strict=True):
        for part, got in zip(row.split(64), kept.split(64), strict=True):
            gamma = sum(abs(float(w)) for w in part) / len(part)
            codes = torch.tensor([max(-1, min(1, round(float(w) / gamma))) for w in part])
            assert torch.equal(got.sign(), codes.float())
            torch.testing.assert_close(got.abs().max().item(), gamma, rtol=2**-8, atol=0)


def test_ternary_weights_and_8_bit_activations_are_those_of_transformers() -> None:
    """Rows of one group, one matrix each, because BitNet has one scale for a whole matrix."""
    bitnet = pytest.importorskip("transformers.integrations.bitnet")
    x = values((7, 64), 1).requires_grad_()
    weight = values((5, 64), 2)
    # means of |w| that bfloat16 can hold, so that the scales are the same
    weight *= torch.tensor([[2.0], [1.0], [0.5], [0.25], [4.0]]) / weight.abs().mean(-1, keepdim=True)
    found = F.linear(round_activations(x), round_to_bits(weight, WeightFormat(TERNARY, 64)))
    with torch.compiler.set_stance("force_eager"):
        rows = [F.linear(bitnet.ActQuant.apply(x), bitnet.WeightQuant.apply(row[None])) for row in weight]
    wanted = torch.cat(rows, dim=-1)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    slopes = [torch.autograd.grad(y.square().sum(), x)[0] for y in (found, wanted)]
    torch.testing.assert_close(slopes[0], slopes[1], rtol=1e-5, atol=1e-4)


@pytest.mark.filterwarnings("ignore")
def test_ternary_weights_are_torchaos() -> None:
    bitnet = pytest.importorskip("torchao.prototype.quantized_training.bitnet")
    weight = values((1, 64), 2)
    scale = bitnet.get_bitnet_scale(weight)
    codes = bitnet.quantize_bitnet_weight(weight, scale)
    packed, stored = pack(weight, WeightFormat(TERNARY)), WeightFormat(TERNARY)
    assert torch.equal(unpack_codes(packed, stored, 64), codes)
    torch.testing.assert_close(packed[SCALE_SUFFIX].float(), scale.view(1, 1), rtol=2**-8, atol=0)


@pytest.mark.parametrize("bits", WEIGHT_BITS)
def test_zeros_stay_zeros_and_gradients_pass_straight_through(bits: float) -> None:
    weight = torch.zeros(3, 64, requires_grad=True)
    rounded = round_to_bits(weight, WeightFormat(bits))
    assert torch.equal(rounded, weight)
    rounded.backward(torch.arange(192.0).view(3, 64))
    assert weight.grad is not None
    assert torch.equal(weight.grad, torch.arange(192.0).view(3, 64))


@pytest.mark.parametrize("bits", WEIGHT_BITS)
def test_slices_are_rounded_as_their_copies(bits: float) -> None:
    large, stored = values((4, 300, 333), 0), WeightFormat(bits, 128)
    for width in (77, 128, 256):
        view = large[:3, :170, :width]
        assert torch.equal(round_to_bits(view, stored), round_to_bits(view.clone().contiguous(), stored))
    view = values((256, 300), 1).T  # along the other axis
    assert torch.equal(round_to_bits(view, stored), round_to_bits(view.clone().contiguous(), stored))
    assert torch.equal(round_to_bits(view, FLOAT8), round_to_bits(view.clone().contiguous(), FLOAT8))


def test_float8_is_pytorchs_with_a_scale_for_each_row() -> None:
    weight = values((5, 40), 0) * torch.logspace(-3, 3, 5)[:, None]
    packed = pack(weight, FLOAT8)
    assert packed[""].dtype == torch.float8_e4m3fn
    assert (packed[""].float().abs().amax(1) == 448).all()
    assert packed[SCALE_SUFFIX].shape == (5, 1)
    assert weight_bytes((5, 40), FLOAT8) == 5 * (40 + 2)
    zeros = torch.zeros(3, 64, requires_grad=True)
    round_to_bits(zeros, FLOAT8).backward(torch.arange(192.0).view(3, 64))
    assert zeros.grad is not None
    assert torch.equal(zeros.grad, torch.arange(192.0).view(3, 64))


def test_spaces_of_before_float8_keep_their_names() -> None:
    plain = to_plain(Bits(weight=8))
    assert plain == {"type": "Bits", "weight": 8, "activation": 16, "state": 16, "group": 64}
    assert from_plain(plain) == Bits(weight=8)
    float8: list[Any] = [Bits(weight=8, numbers="float"), Bits(weight=8, numbers=one_of("int", "float"))]  # type: ignore[arg-type]
    for bits in float8:
        assert from_json(to_json(bits)) == bits


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4])
def test_float8_activations_keep_relative_errors_and_rounding_twice_changes_no_code(scale: float) -> None:
    x = (scale * values((7, 33), 1)).requires_grad_()
    once = round_activations(x, "float")
    assert ((once - x).abs() <= 0.063 * x.abs() + x.abs().amax(-1, keepdim=True) / 448 / 1000).all()
    torch.testing.assert_close(round_activations(once, "float"), once, rtol=1e-6, atol=0)
    assert torch.equal(round_activations(x[2:3], "float"), once[2:3])  # a token by itself
    assert not round_activations(torch.zeros(2, 8), "float").any()
    once.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, torch.ones_like(x))


@pytest.mark.parametrize(
    "bits",
    [
        Bits(numbers="float"),
        Bits(numbers="float", weight=4, activation=8),
        Bits(numbers="float", weight=8, group=128),
    ],
    ids=str,
)
def test_float8_is_legal_where_something_has_8_bits(bits: Bits) -> None:
    with pytest.raises(IllegalArchitecture, match="float8 is for weights or activations of 8 bits"):
        bits.check()
    Bits(numbers="float", weight=8).check()
    Bits(numbers="float", activation=8).check()
    with pytest.raises(IllegalArchitecture, match="known numbers are"):
        Bits(numbers="posit").check()
    assert str(Bits(weight=8, activation=8, numbers="float")) == "w8/a8/s16 bits, products in float8"
    assert Bits(numbers="float", activation=8).stored == WeightFormat()


def test_vectors_and_short_kernels_stay_whole() -> None:
    assert not is_matrix((64,))
    assert not is_matrix((64, 4))
    assert weight_bytes((64, 4), WeightFormat(4)) == 1024


@pytest.mark.parametrize(
    "bits",
    [
        Bits(weight=5),
        Bits(weight=1.5),
        Bits(activation=4),
        Bits(state=2),
        Bits(weight="8"),  # type: ignore[arg-type]
        Bits(group=48),
        Bits(group=0),
    ],
    ids=str,
)
def test_unknown_widths_are_illegal(bits: Bits) -> None:
    with pytest.raises(IllegalArchitecture, match="known widths"):
        bits.check()


def test_bits_are_named_where_they_are_unusual() -> None:
    assert str(Bits(weight=4, state=8)) == "w4/s8 bits"
    assert str(Bits(weight=TERNARY, activation=8, group=128)) == "w1.58/a8/s16 bits in groups of 128"
    layer = Layer(sequence_mixer=Attention(), bits=Bits(weight=3))
    assert strip(layer).endswith("  w3/s16 bits")
    assert from_json(to_json(layer)) == layer


ALL_WIDTHS = [
    Bits(weight=bits, group=group, activation=8 if group == 128 else 16)
    for bits, group in zip(WEIGHT_BITS, (64, 32, 128, 64, 32, 65536, 32), strict=True)
] + [Bits(weight=8, activation=8, numbers="float")]


@pytest.mark.parametrize("bits", ALL_WIDTHS, ids=str)
@torch.no_grad()
def test_exported_files_hold_the_counted_bytes_and_come_back_bit_for_bit(bits: Bits, tmp_path: Path) -> None:
    spec = network(bits, bits, bits, d_model=41)
    model = Supernet(Space(spec)).subnet(spec).extract()
    save_model(model, tmp_path)
    again, tokens = load_model(tmp_path), torch.arange(40)[None]
    assert again.spec == spec
    assert torch.equal(again(tokens), model(tokens))
    raw = (tmp_path / "model.safetensors").read_bytes()
    assert len(raw) - 8 - int.from_bytes(raw[:8], "little") == spec.cost(Scenario()).weight_bytes
    save_model(again, tmp_path / "again")
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == raw


def test_the_old_format_is_read_and_a_newer_one_refused(tmp_path: Path) -> None:
    spec = network(Bits(weight=4), Bits(weight=8))
    save_model(build(spec), tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    for layer in config["spec"]["layers"]:  # as version 1 wrote it
        del layer["bits"]["activation"], layer["bits"]["group"]
    path.write_text(json.dumps(config | {"format": 1}))
    model = load_model(tmp_path)
    assert model.spec == spec
    again = tmp_path / "again"
    save_model(model, again)
    weights = "model.safetensors"
    assert (again / weights).read_bytes() == (tmp_path / weights).read_bytes()
    path.write_text(json.dumps(config | {"format": 3}))
    with pytest.raises(SettingError, match="format 3"):
        load_model(tmp_path)


def test_4_bits_are_packed_as_format_1_packed_them() -> None:
    codes = torch.tensor([[7, -7, 1, -1, 0, 3, -4, 5, 2]])
    packed = pack(codes * 0.5, WeightFormat(4))[""]
    wanted = [(0x97), (0xF1), (0x30), (0x5C), (0x02)]  # the first code of two in the low half
    assert packed.view(torch.uint8).tolist() == [wanted]


class TestActivations:
    def test_each_token_has_a_scale_and_its_outliers_stay(self) -> None:
        x = values((3, 5, 32), 0)
        x[0, 0, 3], x[2, 4, 7] = 9.5, -6.25
        found = round_activations(x)
        for token, got in zip(x.flatten(0, 1), found.flatten(0, 1), strict=True):
            scale = max(abs(float(v)) for v in token if abs(float(v)) <= 6) / 127
            wanted = [float(v) if abs(float(v)) > 6 else round(float(v) / scale) * scale for v in token]
            torch.testing.assert_close(got, torch.tensor(wanted), rtol=1e-6, atol=1e-7)
        assert not torch.equal(found, x)
        torch.testing.assert_close(round_activations(found), found, rtol=1e-6, atol=0)

    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
    def test_zeros_and_dtypes_stay(self, dtype: torch.dtype) -> None:
        x = torch.zeros(2, 9, dtype=dtype)
        assert torch.equal(round_activations(x), x)
        x[0, 0] = 40.0
        assert torch.equal(round_activations(x), x)

    def test_gradients_pass_straight_through(self) -> None:
        x = values((2, 9), 0).requires_grad_()
        round_activations(x).backward(torch.arange(18.0).view(2, 9))
        assert x.grad is not None
        assert torch.equal(x.grad, torch.arange(18.0).view(2, 9))

    def test_only_products_are_rounded(self) -> None:
        x, weight = values((3, 16), 0), values((4, 16), 1)
        with RoundedActivations():
            product, sum_ = F.linear(x, weight), x + 1
        assert torch.equal(product, F.linear(round_activations(x), weight))
        assert torch.equal(sum_, x + 1)
        assert torch.equal(F.linear(x, weight), x @ weight.T)

    def test_every_form_of_experts_is_rounded(self) -> None:
        x, logits = values((5, 16), 0), values((5, 4), 1)
        weights = values((4, 12, 16), 2), values((4, 12, 16), 3), values((4, 16, 12), 4)
        arguments = (x, *route(logits, 2), *weights)
        forms = (expert_mixture, expert_mixture_fetched, expert_mixture_plainly)
        exact = forms[0](*arguments)
        with RoundedActivations():
            rough = [form(*arguments) for form in forms]
        for found in rough:
            torch.testing.assert_close(found, rough[0], rtol=1e-5, atol=1e-5)
        assert (rough[0] - exact).abs().max() > 1e-3

    @torch.no_grad()
    def test_a_layer_rounds_what_enters_its_products(self) -> None:
        rough, exact = (build(network(Bits(activation=a), Bits(activation=a))) for a in (8, 16))
        tokens = torch.arange(30)[None]
        found, wanted = rough(tokens), exact(tokens)
        error = (found - wanted).square().mean().sqrt() / wanted.std()
        assert 1e-4 < error < 0.05
        for layer in exact.decoder_layers:
            for half in layer.sublayers.values():
                half.activations = RoundedActivations
        assert torch.equal(exact(tokens), found)

    @pytest.mark.parametrize("numbers", ["int", "float"])
    @torch.no_grad()
    def test_decode_is_prefill(self, numbers: str) -> None:
        bits = Bits(activation=8, numbers=numbers)
        model = build(network(bits, bits)).double()
        tokens = torch.randint(64, (2, 25), generator=torch.Generator().manual_seed(0))
        whole, _ = model.prefill(tokens)
        logits, state = model.prefill(tokens[:, :10])
        pieces = [logits]
        for token in tokens[:, 10:].unbind(1):
            logits, state = model.step(token, state)
            pieces.append(logits[:, None])
        torch.testing.assert_close(torch.cat(pieces, 1), whole, rtol=0, atol=1e-9)

    @pytest.mark.parametrize("spec", EXAMPLES, ids=str)
    @torch.no_grad()
    def test_decode_is_prefill_for_every_block(self, spec: Block) -> None:
        half = Residual(spec, 20, Bits(activation=8))
        dice = torch.Generator().manual_seed(0)
        half.norm.fill_(1.0)
        half.mixer.reset_parameters(dice)
        for parameter in half.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=dice), alpha=0.1)
        half.double()
        x = torch.randn(2, 37, 20, generator=dice, dtype=torch.float64)
        whole = half(x).y
        head = half(x[:, :9], half.init_state(2, 37), 0)
        pieces, state = [head.y], head.state or {}
        for t in range(9, 30):
            y, state = half.step(x[:, t], state, torch.tensor(t) if t % 2 else t)
            pieces.append(y[:, None])
        pieces.append(half(x[:, 30:], state, 30).y)
        torch.testing.assert_close(torch.cat(pieces, 1), whole, rtol=0, atol=1e-9)

    def test_products_of_heads_and_absorbed_ones_are_rounded(self) -> None:
        x, weight = values((3, 5, 16), 0), values((3, 4, 16), 1)
        with RoundedActivations():
            found, same = linear_per_head(x, weight), multiplied_elsewhere(x)
        assert torch.equal(found, torch.einsum("hrk,hjk->hrj", round_activations(x), weight))
        assert torch.equal(same, round_activations(x))
        assert multiplied_elsewhere(x) is x

    @pytest.mark.parametrize("spec", EXAMPLES, ids=str)
    @torch.no_grad()
    def test_no_parameter_is_multiplied_past_the_products(self, spec: Block) -> None:
        mixer = spec.build(20)
        mixer.reset_parameters(torch.Generator().manual_seed(0))
        own = {p.untyped_storage().data_ptr(): name for name, p in mixer.named_parameters()}
        past: set[str] = set()

        class Watching(TorchFunctionMode):
            def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
                if func in MULTIPLY:
                    tensors = [a for a in args if isinstance(a, Tensor)]
                    past.update(own.get(t.untyped_storage().data_ptr(), "") for t in tensors)
                return func(*args, **(kwargs or {}))

        x = values((2, 9, 20), 1)
        with Watching():
            state = mixer(x, mixer.init_state(2, 12), 0).state or {}
            assert not past - {""}
            mixer.step(x[:, 0], state, 9)
        # these come after the latents, which are marked as multiplied elsewhere
        assert past - {""} == ({"wk", "wv"} if isinstance(spec, LatentAttention) else set())

    @pytest.mark.parametrize(
        "bits", [Bits(weight=3, activation=8, group=32), Bits(weight=8, activation=8, numbers="float")]
    )
    def test_slices_are_their_copies_and_learn(self, bits: Bits) -> None:
        small, large = (network(bits, bits, bits, d_model=d) for d in (40, 48))
        supernet = Supernet(Space(one_of(small, large)))
        for spec in (small, large):
            subnet, tokens = supernet.subnet(spec), torch.arange(20)[None]
            with torch.no_grad():
                assert torch.equal(subnet(tokens), subnet.extract()(tokens))
            leaves = subnet.leaves()
            subnet(tokens, subnet.rounded(leaves)).logsumexp(-1).mean().backward()
            assert all(leaf.grad is not None and leaf.grad.isfinite().all() for leaf in leaves.values())


BOUND = {8: 1 / 250, 4: 1 / 13}


@pytest.mark.parametrize("bits", BOUND)
@given(st.integers(0, 99), st.integers(1, 30), st.sampled_from([8, 7]))
def test_rows_of_a_cache_are_written_once_and_within_their_bound(
    bits: int, seed: int, count: int, width: int
) -> None:
    shape = StateShape((2, width), per_token=True, limit=12)
    codec = StateCodec({"k": shape}, bits)
    stored = codec.empty({"k": torch.zeros(shape.allocated(3, 30))})
    history = values((3, 2, count, width), seed)
    for position in range(count):
        cache = codec.read(stored, torch.float32)["k"]
        before = cache.clone()
        cache[:, :, position % 12] = history[:, :, position]
        stored = codec.write({"k": cache}, stored, torch.tensor(position), 1)
        after = codec.read(stored, torch.float32)["k"]
        others = [slot for slot in range(12) if slot != position % 12]
        assert torch.equal(after[:, :, others], before[:, :, others])
        row, kept = history[:, :, position], after[:, :, position % 12]
        assert ((kept - row).abs() <= row.abs().amax(-1, keepdim=True) * BOUND[bits]).all()
    held = sum(t.numel() * t.element_size() for t in stored.values())
    assert held == 3 * state_bytes(shape, bits, 30)


@pytest.mark.parametrize("bits", BOUND)
def test_many_rows_at_once_are_the_rows_one_by_one(bits: int) -> None:
    shape = StateShape((2, 8), per_token=True)
    codec = StateCodec({"k": shape}, bits)
    cache = values(shape.allocated(1, 20), 0)
    stored = codec.empty({"k": torch.zeros_like(cache)})
    whole = codec.write({"k": cache}, stored, 0, 20)
    assert torch.equal(
        codec.read(whole, torch.float32)["k"], codec.read(codec.empty({"k": cache}), torch.float32)["k"]
    )


@pytest.mark.parametrize("bits", BOUND)
def test_a_fading_state_stays_within_the_bound_of_its_decay(bits: int) -> None:
    """h = decay * h + x, rounded at every token: no further off than one write over (1 - decay)."""
    codec, decay = StateCodec({"h": StateShape((3, 16), exact=True)}, bits), 0.8
    exact = torch.zeros(2, 3, 16)
    stored = codec.empty({"h": exact.clone()})
    largest = torch.zeros(2, 3, 1)
    for t in range(60):
        x = values((2, 3, 16), t)
        exact = decay * exact + x
        state = {"h": decay * codec.read(stored, torch.float32)["h"] + x}
        largest = torch.maximum(largest, state["h"].abs().amax(-1, keepdim=True))
        stored = codec.write(state, stored, t, 1)
        error = (codec.read(stored, torch.float32)["h"] - exact).abs()
        assert (error <= BOUND[bits] * largest / (1 - decay) + 1e-6).all()
    assert error.max() > 0


@torch.no_grad()
def test_a_network_decodes_with_a_state_of_4_bits() -> None:
    spec = network(Bits(state=4), Bits(state=4))
    model = build(spec).double()
    tokens = torch.randint(64, (2, 40), generator=torch.Generator().manual_seed(0))
    whole = model(tokens)
    logits, state = model.prefill(tokens[:, :20], capacity=22)
    pieces = [logits]
    for token in tokens[:, 20:].unbind(1):
        logits, state = model.step(token, state)
        pieces.append(logits[:, None])
    error = (torch.cat(pieces, 1) - whole)[:, 20:].square().mean().sqrt() / whole.std()
    assert 1e-3 < error < 0.3
    stored = [half for layer in model.init_state(2, 40).layers for half in layer.values()]
    held = sum(tensor.numel() * tensor.element_size() for half in stored for tensor in half.values())
    assert held == spec.cost(Scenario(batch=2, prompt=32, new_tokens=8)).state_bytes
