"""Linear attention: each reference is its quadratic form, with all pairs of tokens."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from search_spaces.blocks.based import Based
from search_spaces.blocks.linear_attention import LinearAttention
from search_spaces.blocks.performer import Performer
from search_spaces.ops.features import orthogonal_directions
from search_spaces.references import Function, Weights, reference
from search_spaces.references.attention import heads_of, masked_attention, mixed, turned


def faded(scores: Tensor, decay: str) -> Tensor:
    """Weights [B, H, T, T] of the past, each head's by a constant share less for each token between."""
    time = torch.arange(scores.shape[-1], dtype=torch.float64)
    head = torch.arange(scores.shape[1], dtype=torch.float64)[:, None, None]
    kept = {
        "none": torch.ones_like(head),
        "narrow": 1 - 2.0 ** (-5 - head),
        "wide": 1 - 2.0 ** (-1 - 2 * head),
    }[decay]
    return (scores * kept ** (time[:, None] - time).clamp(min=0)).tril()


@reference(LinearAttention, source="its quadratic form")
def linear(spec: LinearAttention, weights: Weights, d_model: int) -> Function:
    """Equation 8 of arXiv:2006.16236, with all pairs of tokens, and decays."""
    weights = {name: weight.double() for name, weight in weights.items()}

    def reference(x: Tensor) -> Tensor:
        q, k, v = (heads_of(x.double(), weights[name]) for name in ("wq", "wk", "wv"))
        q, k = F.elu(q) + 1, F.elu(k) + 1
        return mixed(faded(q @ k.mT, spec.decay), v, weights["wo"])

    return reference


@reference(Performer, source="its quadratic form")
def performer(spec: Performer, weights: Weights, d_model: int) -> Function:
    """Equation 5 and lemma 1 of arXiv:2009.14794, with all pairs of tokens, decays, nothing subtracted."""
    weights = {name: weight.double() for name, weight in weights.items()}
    directions = orthogonal_directions(spec.num_features, spec.head_dim)

    def features(x: Tensor) -> Tensor:
        x = x / spec.head_dim**0.25
        return (x @ directions.T - x.square().sum(-1, keepdim=True) / 2).exp() / spec.num_features**0.5

    def reference(x: Tensor) -> Tensor:
        q, k, v = (heads_of(x.double(), weights[name]) for name in ("wq", "wk", "wv"))
        scores = features(turned(q)) @ features(turned(k)).mT
        return mixed(faded(scores, spec.decay), v, weights["wo"])

    return reference


@reference(Based, source="its quadratic form and a masked window")
def based(spec: Based, weights: Weights, d_model: int) -> Function:
    """Equation 4 of arXiv:2402.18668 and a window of softmax attention, with all pairs of tokens."""
    near = {name[5:]: weight for name, weight in weights.items() if name.startswith("near.")}
    window = masked_attention(near, lambda t, s: t - s < spec.window, rotary=True)
    weights = {name: weight.double() for name, weight in weights.items()}

    def reference(x: Tensor) -> Tensor:
        q, k, v = (heads_of(x.double(), weights[name]) for name in ("wq", "wk", "wv"))
        z = q @ k.mT / spec.state_dim**0.5
        far = mixed((1 + z + z.square() / 2).tril(), v, weights["wo"])
        return far + window(x)

    return reference
