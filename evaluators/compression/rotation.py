"""Rotation before rounding: the residual stream in another basis, in which no channel stands out.

    x' = x Q,   Q = H diag(s) / sqrt(D),   W' = W diag(g) Q for what reads it,   W' = Q' W for what writes it

H is a Hadamard matrix and s are random signs, so every new channel is a mean of all old ones (QuaRot,
Ashkboos et al. 2024, arXiv:2404.00456, sections 3 and 4.1; SliceGPT, Ashkboos et al. 2024, arXiv:2401.15024,
section 3). A norm by the root mean square does not see a rotation once its gains g are part of the matrices
behind it. A head that was tied becomes one of its own, since its gains are no part of the embedding. What the
network computes stays as it was, which is tried on tokens.

Shapes: D d_model.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from foundation.errors import SettingError
from search_spaces.network.decoder import Decoder
from search_spaces.network.model import Model
from search_spaces.network.norms.base import BEFORE
from search_spaces.network.norms.rms_norm import RMSNorm
from search_spaces.network.parameter_roles import block_roles
from search_spaces.network.residual import Residual
from search_spaces.network.shell import EMBEDDING, HEAD
from search_spaces.parameter_axes import WIDTH, Layout
from search_spaces.quantization.bits import TERNARY

SAME = 1e-3
"""Logits that differ by less than this share are the same, in float32."""

TRIED_TOKENS = 32
SIDE_OPTIONS = ("shared", "parallel")
"""Options of layers that read and write the residual stream by their blocks alone."""


def not_rotated(spec: Decoder) -> str:
    """Why the residual stream of a network cannot be rotated, as the end of a sentence; or nothing."""
    if not isinstance(spec.norm, RMSNorm) or spec.norm.place != BEFORE:
        return f"its norm is {spec.norm!r}, and only an RMSNorm in front of the mixers does not see rotations"
    for index, layer in enumerate(spec.layers):
        if wrong := next((name for name in layer.options if name not in SIDE_OPTIONS), None):
            return f"layers.{index} has {wrong}, which reads single channels"
        if any(layer.bits_at(place).weight == TERNARY for place in layer.blocks):
            return f"layers.{index} has weights of 1.58 bits, learned in their own basis: leave out rotate"
        for block in layer.blocks.values():
            layout, roles = block.layout(), block_roles(block, spec.d_model)
            for name, role in roles.items():
                words = () if layout is None else layout.words(name) if name in layout.axes else ()
                count = "".join(words).count(WIDTH)
                if layout is None or count > 1 or (count and len(words) > 1 and role.kind != "matrix"):
                    kind = type(block).__name__
                    return (
                        f"layers.{index}: {name} of {kind} is laid out by single channels of the residual"
                        " stream, which a rotation mixes: leave out rotate"
                    )
    return ""


def rotated_spec(spec: Decoder) -> Decoder:
    """The architecture of the rotated network: its head is no longer tied."""
    return replace(spec, head=replace(spec.head, tied=False))


def hadamard(width: int, seed: int) -> Tensor:
    """A random orthogonal matrix [D, D] in float64 whose entries are all of about the same size.

    Its power of two is a Hadamard matrix with random signs; an odd factor is any orthogonal matrix.
    """
    dice = torch.Generator().manual_seed(seed)
    odd = width // (width & -width)
    matrix = torch.linalg.qr(torch.randn(odd, odd, generator=dice, dtype=torch.float64))[0]
    while len(matrix) < width:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)]) * 0.5**0.5
    signs = torch.randint(0, 2, (width,), generator=dice, dtype=torch.float64) * 2 - 1
    return signs[:, None] * matrix


@torch.no_grad()
def rotated(model: Model, seed: int = 0) -> Model:
    """The same function with a rotated residual stream, in the architecture of `rotated_spec`.

    Raises:
        SettingError: the function would not be the same.
    """
    spec, device = model.spec, model.embedding.device
    with torch.device("meta"):
        turned = Model(rotated_spec(spec))
    turned.to_empty(device=device).eval()
    held = {name: weight.detach().double() for name, weight in model.named_parameters()}
    held.setdefault(HEAD, held[EMBEDDING])
    (gain,) = spec.norm.held
    turn = hadamard(spec.d_model, seed).to(device)
    held[HEAD] = held[HEAD] * held[gain] @ turn
    held[EMBEDDING] = held[EMBEDDING] @ turn
    held[gain] = torch.ones_like(held[gain])
    for path, module in turned.named_modules():
        if not isinstance(module, Residual):
            continue
        layout, own = module.block.layout(), f"{path}.{gain}"
        for name, _ in module.mixer.named_parameters():
            assert layout is not None, "a block without a layout is refused"
            full = f"{path}.mixer.{name}"
            held[full] = _turned(layout, name, held[full], held[own], turn)
        held[own] = torch.ones_like(held[own])
    for name, weight in turned.named_parameters():
        weight.copy_(held[name])
    _require_the_same(model, turned)
    return turned


def _turned(layout: Layout, name: str, weight: Tensor, gain: Tensor, turn: Tensor) -> Tensor:
    """One parameter in the new basis; what reads the residual stream takes the gains in."""
    words = layout.words(name) if name in layout.axes else ()
    if WIDTH not in words:
        return weight
    axis = words.index(WIDTH)
    if axis == len(words) - 1 and axis > 0:
        return weight * gain @ turn
    return (weight.movedim(axis, -1) @ turn).movedim(-1, axis)


def _require_the_same(before: Model, after: Model) -> None:
    dice, vocab = torch.Generator().manual_seed(0), before.spec.vocab
    tokens = torch.randint(0, vocab, (1, TRIED_TOKENS), generator=dice).to(before.embedding.device)
    expected, found = before(tokens), after(tokens)
    if not (found - expected).norm() <= SAME * expected.norm():
        raise SettingError("the network computes something else when its residual stream is rotated")
