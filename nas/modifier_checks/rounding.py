"""Rounding: to nearest, GPTQ, AWQ, behind rotations, and NF4."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from evaluators.compression.awq import scaled_inputs
from evaluators.compression.calibration import Part, second_moments
from evaluators.compression.gptq import DAMP, gptq
from evaluators.compression.normal_float import normal_float_values, round_to_normal_float
from evaluators.compression.rotation import rotated, rotated_spec
from nas.modifier_checks.base import Measured, SystemCheck, checks, difference, random
from nas.modifier_checks.pruning import ROWS, WIDTH, moment
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.gated_delta_net import GatedDeltaNet
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.model import Model, build
from search_spaces.quantization.activations import OUTLIER, round_activations
from search_spaces.quantization.bits import GROUPS, WeightFormat, weight_bytes
from search_spaces.quantization.packing import pack
from search_spaces.quantization.rounding import round_to_bits
from search_spaces.scenario import Scenario

BYTES = "stored bytes"
GROUP, ROW = 32, GROUPS[-1]


@checks.add
class Nearest(SystemCheck):
    """Errors beside those of torchao at 8 and 4 bits: no more than 2 % larger."""

    name, reference, tolerance, counts = "round to nearest", "torchao, error over its error", 0.02, BYTES
    needs = ("torchao",)

    def measure(self) -> Measured:
        """See `SystemCheck.measure`."""
        from torchao.quantization import IntxWeightOnlyConfig, PerGroup, quantize_

        weight, worse = random(64, 256), []
        for bits in (8, 4):
            layer = torch.nn.Linear(256, 64, bias=False)
            with torch.no_grad():
                layer.weight.copy_(weight)
            quantize_(
                layer,
                IntxWeightOnlyConfig(weight_dtype=getattr(torch, f"int{bits}"), granularity=PerGroup(GROUP)),
            )
            theirs = layer.weight.dequantize().detach() - weight
            ours = round_to_bits(weight, WeightFormat(bits, GROUP)) - weight
            worse.append(float(ours.norm() / theirs.norm()) - 1)
        return Measured(max(worse), *_bytes_of(weight, WeightFormat(4, GROUP)))


def _bytes_of(weight: Tensor, stored: WeightFormat) -> tuple[int, int]:
    """Bytes that are really written of a matrix, and by the law: its bits, and a scale of 16 a group."""
    written = sum(part.nbytes for part in pack(weight, stored).values())
    assert written == weight_bytes(tuple(weight.shape), stored)
    return written, int(weight.numel() * stored.bits // 8 + 2 * weight.numel() // stored.group)


@checks.add
class Int8(SystemCheck):
    """Tokens one by one through a matrix of 8 bits, a tenth of their channels beyond 6.

    A row of weights has one scale, as theirs has. A column that holds an outlier of some token is exact for
    all tokens of a call there, and here for the tokens that have one: single tokens see the same.
    """

    name, counts = "llm.int8", BYTES
    reference, tolerance = "bitsandbytes' int8 products, token by token", 1e-3
    needs = ("bitsandbytes",)

    def measure(self) -> Measured:
        """See `SystemCheck.measure`."""
        from bitsandbytes.functional import int8_vectorwise_quant

        stored = WeightFormat(8, ROW)
        weight, x = round_to_bits(random(64, 256), stored), random(16, 256, seed=1)
        x = torch.where(random(16, 256, seed=2) > 1.3, x + 12 * x.sign(), x).half()
        codes, scale, _ = int8_vectorwise_quant(weight.half())
        theirs = []
        for token in x.split(1):
            own, own_scale, columns = int8_vectorwise_quant(token, threshold=OUTLIER)
            product = torch.ops.bitsandbytes.int8_mixed_scaled_mm
            theirs.append(product(token, own, codes, own_scale, scale, columns, None)[0])
        ours = F.linear(round_activations(x.float()), weight)
        counted = sum(part.nbytes for part in pack(weight, stored).values())
        return Measured(difference(ours, torch.cat(theirs).float()), counted, 64 * (256 + 2))


@checks.add
class Gptq(SystemCheck):
    """The optimal brain surgeon, columns of large inputs first, with a new inverse in each step."""

    name, reference, tolerance, counts = "gptq", "optimal brain surgeon, step by step", 1e-5, BYTES

    def measure(self) -> Measured:
        """See `SystemCheck.measure`."""
        weight, stored = random(ROWS, WIDTH), WeightFormat(8, 64)
        ours = gptq(weight, {Part(0, ROWS, WIDTH): moment()}, stored)
        theirs = surgeon(weight, moment(), DAMP)
        counted = sum(part.nbytes for part in pack(ours, stored).values())
        return Measured(difference(ours, theirs), counted, ROWS * (WIDTH + 2))


def surgeon(weight: Tensor, moment: Tensor, damp: float) -> Tensor:
    """Optimal brain quantization: the inverse of what is left is taken anew each time.

    At 8 bits and one group, with the scale that reaches the largest value; columns of large inputs go first.
    """
    order = moment.diagonal().argsort(descending=True)
    weight, moment = weight[:, order].double(), moment[order][:, order]
    largest = weight.abs().argmax(-1)
    scale = (weight.abs().amax(-1) / 127).to(torch.bfloat16).double()
    sign = weight.gather(-1, largest[:, None])[:, 0].sign()
    hessian = moment + damp * moment.diagonal().mean() * torch.eye(len(moment), dtype=torch.float64)
    for j in range(weight.shape[1]):
        inverse = torch.linalg.inv(hessian[j:, j:])
        code = (weight[:, j] / scale).round().clamp(-127, 127)
        code = torch.where(largest == j, 127 * sign, code)
        error = weight[:, j] - code * scale
        weight[:, j:] -= error[:, None] * inverse[0] / inverse[0, 0]
        weight[:, j] = code * scale
    return weight[:, order.argsort()].float()


def _network() -> Model:
    """Attention and a gated delta net, with a few channels that are large."""
    layers = (
        Layer(sequence_mixer=Attention(num_heads=2, num_kv_heads=1, head_dim=16), channel_mixer=SwiGLU()),
        Layer(sequence_mixer=GatedDeltaNet(num_heads=2, head_dim=8, state_dim=8), channel_mixer=SwiGLU()),
    )
    model = build(Decoder(vocab=64, d_model=32, layers=layers), seed=1).eval()
    with torch.no_grad():
        for index, weight in enumerate(model.parameters()):
            weight.add_(random(*weight.shape, seed=index), alpha=0.1)
        model.embedding[:, ::7] *= 20
    return model


@torch.no_grad()
def _same_function(change: Callable[[Model, Tensor], Model]) -> tuple[float, Model]:
    model, tokens = _network(), torch.randint(64, (4, 24), generator=torch.Generator().manual_seed(0))
    before = model(tokens)
    after = change(model, tokens)
    return difference(after(tokens), before), after


@checks.add
class Awq(SystemCheck):
    """Scales of inputs alone change nothing."""

    name, reference, tolerance = "awq", "the network before its inputs are scaled", 1e-4

    def measure(self) -> Measured:
        """See `SystemCheck.measure`."""
        deviation, after = _same_function(_with_scaled_inputs)
        return Measured(
            deviation, sum(w.numel() for w in after.parameters()), after.spec.cost(Scenario()).params
        )


def _with_scaled_inputs(model: Model, tokens: Tensor) -> Model:
    roles = model.roles()
    names = {n for n, role in roles.items() if role.kind == "matrix" and n.startswith("layers.")}
    moments = second_moments(model, tokens, names.__contains__)
    assert scaled_inputs(model, moments, dict.fromkeys(names, WeightFormat(3, GROUP))), "nothing was scaled"
    return model


@checks.add
class Rotation(SystemCheck):
    """A rotated residual stream changes nothing; a tied head becomes one of its own."""

    name, reference, tolerance = "rotation", "the network before it is rotated", 1e-4

    def measure(self) -> Measured:
        """See `SystemCheck.measure`."""
        deviation, after = _same_function(lambda model, tokens: rotated(model))
        law = rotated_spec(_network().spec).cost(Scenario()).params
        return Measured(deviation, sum(w.numel() for w in after.parameters()), law)


@checks.add
class NormalFloat(SystemCheck):
    """Errors beside those of the nearest published values: scales of 8 bits make them at most 1 % larger."""

    name, counts = "qlora (nf4)", "values"
    reference, tolerance = "the table of arXiv:2305.14314, appendix E, error over its error", 0.01

    published: tuple[float, ...] = (
        *(-1.0, -0.6961928, -0.52507305, -0.39491749, -0.28444138, -0.18477343, -0.09105004, 0.0),
        *(0.0795803, 0.1609302, 0.2461123, 0.33791524, 0.44070983, 0.562617, 0.72295684, 1.0),
    )

    def measure(self) -> Measured:
        """See `SystemCheck.measure`."""
        weight, values = random(8, 64), torch.tensor(self.published)
        scale = weight.abs().amax(-1, keepdim=True)
        nearest = values[(weight[..., None] / scale[..., None] - values).abs().argmin(-1)] * scale
        worse = (round_to_normal_float(weight) - weight).norm() / (nearest - weight).norm() - 1
        return Measured(float(worse), len(normal_float_values().unique()), len(self.published))
