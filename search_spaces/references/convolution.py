"""Convolutions: from transformers, or as sums over lags."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from search_spaces.blocks.hyena import Hyena
from search_spaces.blocks.long_conv import LongConv
from search_spaces.blocks.short_conv import ShortConv
from search_spaces.references import Function, Weights, put, reference


@reference(ShortConv, source="transformers Lfm2ShortConv", needs="transformers")
def lfm2(spec: ShortConv, weights: Weights, d_model: int) -> Function:
    """Gates around a short convolution."""
    from transformers import Lfm2Config
    from transformers.models.lfm2.modeling_lfm2 import Lfm2ShortConv

    config = Lfm2Config(
        hidden_size=d_model,
        conv_L_cache=spec.kernel,
        conv_bias=False,
        num_hidden_layers=1,
        layer_types=["conv"],
    )
    module = Lfm2ShortConv(config, 0).eval()
    put(
        module,
        conv__weight=weights["conv"].flip(-1),
        in_proj__weight=weights["w_in"],
        out_proj__weight=weights["wo"],
    )
    return lambda x: module(x)


def convolved(x: Tensor, kernel: Tensor) -> Tensor:
    """y_t = sum_l h_l x_{t-l}, by the sum over lags; x [B, T, D], kernel [D, L]."""
    y = torch.zeros_like(x)
    for lag in range(min(kernel.shape[-1], x.shape[1])):
        y = y + F.pad(kernel[:, lag] * x[:, : x.shape[1] - lag], (0, 0, lag, 0))
    return y


@reference(LongConv, source="its sum over lags")
def free_taps(spec: LongConv, weights: Weights, d_model: int) -> Function:
    """The equation as it stands, in float64."""
    w = {name: weight.double() for name, weight in weights.items()}
    taps = torch.where(w["taps"].abs() > spec.squash, w["taps"] - spec.squash * w["taps"].sign(), 0.0)

    def run(x: Tensor) -> Tensor:
        v = x.double() @ w["wv"].T
        z = x.double() @ w["wz"].T
        return ((convolved(v, taps) + w["skip"] * v) * z * torch.sigmoid(z)) @ w["wo"].T

    return run


@reference(Hyena, source="its sum over lags")
def implicit_taps(spec: Hyena, weights: Weights, d_model: int) -> Function:
    """Section 3 of arXiv:2302.10866, its kernel evaluated lag by lag, in float64."""
    w = {name: weight.double() for name, weight in weights.items()}

    def tap(lag: int) -> Tensor:
        time = torch.tensor(lag / 1024, dtype=torch.float64)
        angles = 2 * math.pi * time * 2.0 ** torch.arange(8, dtype=torch.float64)
        hidden = torch.cat((time[None], angles.sin(), angles.cos()))
        for part in ("filter_in", "filter_hidden"):
            hidden = torch.sin(w["frequency"] * (w[part] @ hidden + w[part + "_bias"]))
        return w["filter_out"] @ hidden * torch.exp(-w["fade"].exp() * time)

    def run(x: Tensor) -> Tensor:
        kernel = torch.stack([tap(lag) for lag in range(min(x.shape[1], spec.length or x.shape[1]))], dim=-1)
        q, k, v = (convolved(x.double() @ w["w_in"][i].T, w["conv"][i]) for i in range(3))
        return (q * (convolved(k * v, kernel) + w["skip"] * k * v)) @ w["wo"].T

    return run
