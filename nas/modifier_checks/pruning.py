"""Pruning: magnitude, Wanda, SparseGPT, and units that are sliced out."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from evaluators.compression.calibration import Part
from evaluators.compression.gptq import DAMP
from evaluators.compression.pruning import kept_by_magnitude, kept_by_wanda
from evaluators.compression.sparse_gpt import sparse_gpt
from evaluators.compression.structure import pruned
from nas.modifier_checks.base import Measured, SystemCheck, checks, difference, inputs, random
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.model import Model, build

ROWS, WIDTH = 24, 48
ZEROS = "zeros"


def moment() -> Tensor:
    """The second moments [K, K] of some inputs."""
    x = inputs(400, WIDTH).double()
    return x.mT @ x


@checks.add
class Magnitude(SystemCheck):
    """The mask of `torch.nn.utils.prune`."""

    name, reference, tolerance, counts = "magnitude", "torch.nn.utils.prune.l1_unstructured", 0.0, ZEROS

    def measure(self) -> Measured:
        """See `SystemCheck.measure`."""
        layer = nn.Linear(WIDTH, ROWS)
        weight = random(ROWS, WIDTH)
        with torch.no_grad():
            layer.weight.copy_(weight)
        theirs = prune.l1_unstructured(layer, "weight", amount=0.5).weight.detach()
        ours = weight * kept_by_magnitude(weight, 0.5)
        return Measured(difference(ours, theirs), int((ours == 0).sum()), ROWS * WIDTH // 2)


@checks.add
class Wanda(SystemCheck):
    """Its formula, row by row."""

    name, reference, tolerance, counts = "wanda", "|w| |x| by row (arXiv:2306.11695)", 0.0, ZEROS

    def measure(self) -> Measured:
        """See `SystemCheck.measure`."""
        weight, x = random(ROWS, WIDTH), inputs(400, WIDTH)
        ours = weight * kept_by_wanda(weight, {Part(0, ROWS, WIDTH): moment()}, 0.5)
        importance = weight.abs() * x.norm(dim=0)
        stays = importance.topk(WIDTH // 2, dim=-1).indices
        theirs = torch.zeros_like(weight).scatter(-1, stays, weight.gather(-1, stays))
        return Measured(difference(ours, theirs), int((ours == 0).sum()), ROWS * WIDTH // 2)


@checks.add
class SparseGPT(SystemCheck):
    """The optimal brain surgeon in a fixed order, with a new inverse in each step."""

    name, reference, tolerance, counts = "sparsegpt", "optimal brain surgeon, step by step", 1e-5, ZEROS

    def measure(self) -> Measured:
        """See `SystemCheck.measure`."""
        weight = random(ROWS, WIDTH)
        ours = sparse_gpt(weight, {Part(0, ROWS, WIDTH): moment()}, 0.5, (2, 4))
        theirs = _surgeon(weight.double(), moment()).float()
        return Measured(difference(ours, theirs), int((ours == 0).sum()), ROWS * WIDTH // 2)


def _surgeon(weight: Tensor, hessian: Tensor) -> Tensor:
    """2:4: of what is left, the inverse is taken anew at every column."""
    weight = weight.clone()
    hessian = hessian + DAMP * hessian.diagonal().mean() * torch.eye(WIDTH, dtype=torch.float64)
    goes = torch.empty(0)
    for j in range(WIDTH):
        inverse = torch.linalg.inv(hessian[j:, j:])
        if j % 4 == 0:
            ahead = torch.stack([torch.linalg.inv(hessian[k:, k:])[0, 0] for k in range(j, j + 4)])
            goes = (weight[:, j : j + 4].square() / ahead).argsort(-1)[:, :2] + j
        error = torch.where((goes == j).any(-1), weight[:, j], 0.0)
        weight[:, j:] -= error[:, None] * inverse[0] / inverse[0, 0]
    return weight


@checks.add
class Structured(SystemCheck):
    """Heads and channels that put out nothing go, and the function stays."""

    name, reference, tolerance = "structured pruning", "the network with those units silenced", 1e-5

    def measure(self) -> Measured:
        """See `SystemCheck.measure`."""
        model, tokens = _silenced(), torch.randint(64, (2, 17), generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            before = model(tokens)
        smaller = model
        for unit in ("heads", "channels"):
            smaller = pruned(smaller, unit, [0.5], (tokens[:, :-1], tokens[:, 1:]))
        with torch.no_grad():
            after = smaller(tokens)
        gone = sum(w.numel() for w in model.parameters()) - sum(w.numel() for w in smaller.parameters())
        law = 2 * 8 * 2 * 32 + 32 * 3 * 32  # queries and outputs of two heads, and 32 channels with a gate
        return Measured(difference(after, before), gone, law)


def _silenced() -> Model:
    layer = Layer(
        sequence_mixer=Attention(num_heads=4, num_kv_heads=2, head_dim=8), channel_mixer=SwiGLU(expansion=2)
    )
    model = build(Decoder(vocab=64, d_model=32, layers=(layer,)), seed=3).eval()
    held = dict(model.named_parameters())
    with torch.no_grad():
        held["layers.0.sequence_mixer.mixer.wo"][:, [0, 3]] = 0
        held["layers.0.channel_mixer.mixer.down"][:, ::2] = 0
    return model
