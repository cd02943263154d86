"""State-space mixers as transformers computes them."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from search_spaces.blocks.mamba import Mamba
from search_spaces.blocks.mamba2 import Mamba2
from search_spaces.blocks.s4 import S4
from search_spaces.blocks.s4d import S4D
from search_spaces.references import Function, Weights, put, reference
from search_spaces.references.convolution import convolved


@reference(
    Mamba2, source="transformers Mamba2Mixer, its norm from the equations of others", needs="transformers"
)
def mamba2(spec: Mamba2, weights: Weights, d_model: int) -> Function:
    """With the inner width free of d_model."""
    from transformers import Mamba2Config
    from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer

    inner = spec.num_heads * spec.head_dim
    config = Mamba2Config(
        hidden_size=inner,
        num_heads=spec.num_heads,
        head_dim=spec.head_dim,
        state_size=spec.state_dim,
        expand=1,
        n_groups=spec.groups,
        conv_kernel=spec.conv_kernel,
        chunk_size=16,
        num_hidden_layers=1,
        time_step_limit=(spec.dt_least, float("inf")),
    )
    module: Any = Mamba2Mixer(config, 0).eval()
    # the configuration wants the inner width to be a multiple of d_model, the module does not
    module.in_proj = torch.nn.Linear(d_model, module.in_proj.out_features, bias=False)
    module.out_proj = torch.nn.Linear(inner, d_model, bias=False)
    module.norm = GatedNorm(spec)
    whole = {name.removesuffix("_groups"): weight for name, weight in weights.items()}
    weights = {name: weight.flatten(0, -2) for name, weight in whole.items() if weight.ndim > 1} | {
        name: weight.flatten() for name, weight in whole.items() if weight.ndim == 1 or "bias" in name
    }
    gain = {} if spec.norm == "none" else {"norm__weight": weights["norm"]}
    put(
        module,
        in_proj__weight=torch.cat([weights[name] for name in ("wz", "wx", "wbc", "wdt")]),
        conv1d__weight=torch.cat([weights[name] for name in ("conv_x", "conv_bc")]).flip(-1),
        conv1d__bias=torch.cat([weights[name] for name in ("conv_x_bias", "conv_bc_bias")]),
        dt_bias=weights["dt_bias"],
        A_log=weights["a_log"],
        D=weights["skip"],
        out_proj__weight=weights["wo"],
        **gain,
    )
    return lambda x: module(x)


class GatedNorm(torch.nn.Module):
    """The gate and the norm of a Mamba-2, in either order, over one or several groups of channels."""

    def __init__(self, spec: Mamba2) -> None:
        super().__init__()
        self.spec = spec
        if spec.norm != "none":
            self.weight = torch.nn.Parameter(torch.empty(spec.num_heads * spec.head_dim))

    def forward(self, y: Tensor, gate: Tensor) -> Tensor:
        """y and the gate [B, T, C]."""
        opened, spec = gate * torch.sigmoid(gate), self.spec
        if spec.norm == "none":
            return y * opened
        y = y if spec.norm == "ungated" else y * opened
        parts = y.chunk(spec.groups if spec.norm_over == "group" else 1, dim=-1)
        over = [part / (part.square().mean(-1, keepdim=True) + spec.norm_epsilon).sqrt() for part in parts]
        normed = torch.cat(over, -1) * self.weight
        return normed * opened if spec.norm == "ungated" else normed


@reference(Mamba, source="transformers MambaMixer and JambaMambaMixer", needs="transformers")
def transformers_mamba(spec: Mamba, weights: Weights, d_model: int) -> Function:
    """Mamba's own mixer, or Jamba's where there are norms."""
    from transformers import JambaConfig, MambaConfig
    from transformers.models.jamba.modeling_jamba import JambaMambaMixer
    from transformers.models.mamba.modeling_mamba import MambaMixer

    norms = {}
    if spec.norms:
        config: Any = JambaConfig(
            mamba_d_state=spec.state_dim,
            mamba_d_conv=spec.conv_kernel,
            mamba_dt_rank=spec.dt_rank,
            mamba_expand=1,
            use_mamba_kernels=False,
        )
        norms = {
            "dt_layernorm__weight": weights["dt_norm"],
            "b_layernorm__weight": weights["bc_norm"][0],
            "c_layernorm__weight": weights["bc_norm"][1],
        }
    else:
        config = MambaConfig(
            state_size=spec.state_dim,
            conv_kernel=spec.conv_kernel,
            time_step_rank=spec.dt_rank,
            expand=1,
            num_hidden_layers=1,
        )
    # the configurations want the inner width to be a multiple of d_model, the modules do not
    config.hidden_size = config.intermediate_size = spec.channels
    built: Any = (JambaMambaMixer if spec.norms else MambaMixer)(config, 0).eval()
    built.in_proj = torch.nn.Linear(d_model, 2 * spec.channels, bias=False)
    built.out_proj = torch.nn.Linear(spec.channels, d_model, bias=False)
    put(
        built,
        in_proj__weight=torch.cat((weights["wx"], weights["wz"])),
        conv1d__weight=weights["conv"].flip(-1),
        conv1d__bias=weights["conv_bias"],
        x_proj__weight=torch.cat((weights["dt_in"], weights["wbc"].flatten(0, 1))),
        dt_proj__weight=weights["dt_out"],
        dt_proj__bias=weights["dt_bias"],
        A_log=weights["a_log"],
        D=weights["skip"],
        out_proj__weight=weights["wo"],
        **norms,
    )
    return lambda x: built(x)


def glu(weights: Weights, y: Tensor) -> Tensor:
    """What follows a state space: GELU, and a gated product."""
    values, gates = (F.gelu(y) @ weight.T for weight in weights["wo"])
    return values * torch.sigmoid(gates)


@reference(S4D, source="its kernel, mode by mode, and a direct convolution")
def diagonal(spec: S4D, weights: Weights, d_model: int) -> Function:
    """Section 3 of arXiv:2206.11893, in complex128."""
    w = {name: weight.double() for name, weight in weights.items()}
    pole = torch.complex(-w["log_fade"].exp(), w["turn"])
    fade = (w["log_step"].exp()[:, None] * pole).exp()
    gain = torch.complex(w["c_real"], w["c_imag"]) * (fade - 1) / pole

    def run(x: Tensor) -> Tensor:
        lags = [2 * (gain * fade**lag).sum(-1).real for lag in range(x.shape[1])]
        y = convolved(x.double(), torch.stack(lags, dim=-1)) + w["skip"] * x
        return glu(w, y)

    return run


@reference(S4, source="its dense matrix, discretised by a solver, and a direct convolution")
def low_rank(spec: S4, weights: Weights, d_model: int) -> Function:
    """Equation (3) of arXiv:2111.00396 with the dense matrix, in complex128."""
    w = {name: weight.double() for name, weight in weights.items()}
    p, b = torch.complex(*w["p"]), torch.complex(*w["b"])
    matrix = torch.diag(torch.complex(-w["log_fade"].exp(), w["turn"])) - torch.outer(p, p.conj())
    eye, half = torch.eye(spec.state_dim), w["log_step"].exp()[:, None, None] / 2
    inverse = torch.linalg.inv(eye - half * matrix)
    fade, fed = inverse @ (eye + half * matrix), inverse @ (2 * half * b[:, None])
    c = torch.complex(w["c_real"], w["c_imag"])[:, None]

    def run(x: Tensor) -> Tensor:
        state, lags = fed, []
        for _ in range(x.shape[1]):
            lags.append((c @ state)[:, 0, 0].real)
            state = fade @ state
        return glu(w, convolved(x.double(), torch.stack(lags, dim=-1)) + w["skip"] * x)

    return run
