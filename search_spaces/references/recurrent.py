"""Gated recurrences and linear attention with decays: from transformers, or from the equation."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from search_spaces.blocks.delta_net import DeltaNet
from search_spaces.blocks.gated_delta_net import GatedDeltaNet
from search_spaces.blocks.gated_linear_attention import GatedLinearAttention
from search_spaces.blocks.retention import Retention
from search_spaces.blocks.rglru import RGLRU
from search_spaces.references import Function, Weights, put, reference
from search_spaces.references.heads import head_by_head, normed, silu


def convolved(x: Tensor, weight: Tensor, taps: Tensor) -> Tensor:
    """silu(conv(W x)) of one head [B, T, K] by PyTorch's convolution."""
    kernel = taps.flip(-1)[:, None]
    padded = F.pad((x @ weight.T).mT, (taps.shape[-1] - 1, 0))
    return silu(F.conv1d(padded, kernel, groups=taps.shape[0]).mT)


@reference(RGLRU, source="transformers RecurrentGemmaRecurrentBlock", needs="transformers")
def recurrent_gemma(spec: RGLRU, weights: Weights, d_model: int) -> Function:
    """With biases of projections that are zero where the block has none, as in the paper."""
    from transformers import RecurrentGemmaConfig
    from transformers.models.recurrent_gemma.modeling_recurrent_gemma import RecurrentGemmaRecurrentBlock

    inner = spec.num_heads * spec.head_dim
    config = RecurrentGemmaConfig(
        hidden_size=d_model,
        lru_width=inner,
        num_attention_heads=spec.num_heads,
        conv1d_width=spec.conv_kernel,
        num_hidden_layers=1,
    )
    module = RecurrentGemmaRecurrentBlock(config, 0).eval()
    put(
        module,
        linear_y__weight=weights["wy"],
        linear_y__bias=weights.get("y_bias", torch.zeros(inner)),
        linear_x__weight=weights["wx"],
        linear_x__bias=weights.get("x_bias", torch.zeros(inner)),
        linear_out__weight=weights["wo"],
        linear_out__bias=weights.get("out_bias", torch.zeros(d_model)),
        conv_1d__weight=weights["conv"].flip(-1),
        conv_1d__bias=weights["conv_bias"],
        rg_lru__recurrent_param=weights["decay"],
        rg_lru__input_gate_weight=weights["input_gate"].mT,
        rg_lru__input_gate_bias=weights["input_bias"],
        rg_lru__recurrent_gate_weight=weights["decay_gate"].mT,
        rg_lru__recurrent_gate_bias=weights["decay_bias"],
    )

    def reference(x: Tensor) -> Tensor:
        return module(x, torch.arange(x.shape[1])[None].expand(x.shape[0], -1), None, use_cache=False)[0]

    return reference


@reference(GatedLinearAttention, source="its recurrence, head by head")
def gated_linear_attention(spec: GatedLinearAttention, weights: Weights, d_model: int) -> Function:
    """Equations (3) and section 4.4 of arXiv:2312.06635, one head and one token at a time."""

    def reference(x: Tensor) -> Tensor:
        merged = torch.zeros(())
        for h in range(spec.num_heads):
            q = x @ weights["wq"][h].T / spec.state_dim**0.5
            k, v = x @ weights["wk"][h].T, x @ weights["wv"][h].T
            gate = x @ weights["gate_in"].T @ weights["gate_out"][h].T + weights["gate_bias"][h]
            alpha = torch.sigmoid(gate) ** (1 / 16)
            memory, outputs = torch.zeros(x.shape[0], spec.state_dim, spec.head_dim), []
            for t in range(x.shape[1]):
                memory = alpha[:, t, :, None] * memory + k[:, t, :, None] * v[:, t, None, :]
                outputs.append((q[:, t, :, None] * memory).sum(1))
            o = torch.stack(outputs, dim=1)
            normed = o / (o.square().mean(-1, keepdim=True) + 1e-6).sqrt() * weights["norm"]
            z = x @ weights["wz"][h].T
            merged = merged + (normed * z * torch.sigmoid(z)) @ weights["wo"][:, h].T
        return merged

    return reference


@reference(Retention, source="its parallel form")
def retention(spec: Retention, weights: Weights, d_model: int) -> Function:
    """The parallel form of arXiv:2307.08621, equation (5), its rotation by complex numbers."""

    def head(x: Tensor, w: Weights, h: int) -> Tensor:
        time = torch.arange(x.shape[1], dtype=torch.float64)
        angle = time[:, None] * 10_000.0 ** -(torch.arange(spec.state_dim // 2).double() * 2 / spec.state_dim)
        q, k = (
            torch.complex(*(x @ w[name][h].T).chunk(2, dim=-1)) * torch.polar(torch.ones_like(angle), angle)
            for name in ("wq", "wk")
        )
        age = time[:, None] - time
        kept = 1 - 2.0 ** (-5 - h if spec.decay == "narrow" else -1 - 2 * h)
        fade = kept ** age.clamp(min=0) * (age >= 0)
        o = (q @ k.mH).real / spec.state_dim**0.5 * fade @ (x @ w["wv"][h].T)
        return normed(o, w["norm"][h], w["norm_bias"][h]) * silu(x @ w["wz"][h].T)

    return head_by_head(spec, weights, head)


@reference(DeltaNet, source="its recurrence, as products of matrices")
def delta_net(spec: DeltaNet, weights: Weights, d_model: int) -> Function:
    """Equation (2) of arXiv:2406.06484 as a product of Householder-like matrices: S (I - b k k') + b v k'."""

    def head(x: Tensor, w: Weights, h: int) -> Tensor:
        g = h // (spec.num_heads // spec.key_heads)
        q, k = (convolved(x, w["wqk"][i, g], w["conv_qk"][i, g]) for i in (0, 1))
        q, k = (part / (part.square().sum(-1, keepdim=True) + 1e-6).sqrt() for part in (q, k))
        v = convolved(x, w["wv"][h], w["conv_v"][h])
        rate = torch.sigmoid(x @ w["wb"][h])[..., None, None] * (1 + spec.negative_eigenvalues)
        memory, outputs = torch.zeros(x.shape[0], v.shape[-1], k.shape[-1]).double(), []
        for t in range(x.shape[1]):
            key, value, b = k[:, t, None, :], v[:, t, :, None], rate[:, t]
            memory = memory @ (torch.eye(k.shape[-1]) - b * key.mT @ key) + b * value @ key
            outputs.append((memory @ q[:, t, :, None])[..., 0] / spec.state_dim**0.5)
        o = torch.stack(outputs, dim=1)
        return o / (o.square().mean(-1, keepdim=True) + spec.norm_epsilon).sqrt() * w["norm"]

    return head_by_head(spec, weights, head)


@reference(
    GatedDeltaNet,
    source="transformers Qwen3NextGatedDeltaNet and OlmoHybridGatedDeltaNet",
    needs="transformers",
)
def gated_delta_net(spec: GatedDeltaNet, weights: Weights, d_model: int) -> Function:
    """The whole layer, its projections joined; OLMo's with negative eigenvalues."""
    if spec.negative_eigenvalues:
        return olmo_hybrid(spec, weights, d_model)
    from transformers import Qwen3NextConfig
    from transformers.models.qwen3_next.modeling_qwen3_next import Qwen3NextGatedDeltaNet

    config = Qwen3NextConfig(
        hidden_size=d_model,
        linear_num_value_heads=spec.num_heads,
        linear_num_key_heads=spec.key_heads,
        linear_key_head_dim=spec.state_dim,
        linear_value_head_dim=spec.head_dim,
        linear_conv_kernel_dim=spec.conv_kernel,
        rms_norm_eps=spec.norm_epsilon,
        num_hidden_layers=1,
        layer_types=["linear_attention"],
    )
    module = Qwen3NextGatedDeltaNet(config, 0).eval()
    q, k = weights["wqk"]
    taps = torch.cat([part.flatten(0, 1) for part in (*weights["conv_qk"], weights["conv_v"])])
    wv, wz, wb, wdt = (
        weights[name].unflatten(0, (spec.key_heads, -1)).reshape(spec.key_heads, -1, d_model)
        for name in ("wv", "wz", "wb", "wdt")
    )
    put(
        module,
        in_proj_qkvz__weight=torch.cat((q, k, wv, wz), dim=1),
        in_proj_ba__weight=torch.cat((wb, wdt), dim=1),
        conv1d__weight=taps.flip(-1),
        dt_bias=weights["dt_bias"],
        A_log=weights["a_log"],
        norm__weight=weights["norm"],
        out_proj__weight=weights["wo"],
    )
    return lambda x: module(x)


def olmo_hybrid(spec: GatedDeltaNet, weights: Weights, d_model: int) -> Function:
    """The same with projections of their own, and with negative eigenvalues."""
    from transformers import OlmoHybridConfig
    from transformers.models.olmo_hybrid.modeling_olmo_hybrid import OlmoHybridGatedDeltaNet

    config = OlmoHybridConfig(
        hidden_size=d_model,
        linear_num_value_heads=spec.num_heads,
        linear_num_key_heads=spec.key_heads,
        linear_key_head_dim=spec.state_dim,
        linear_value_head_dim=spec.head_dim,
        linear_conv_kernel_dim=spec.conv_kernel,
        linear_allow_neg_eigval=spec.negative_eigenvalues,
        num_attention_heads=1,
        num_hidden_layers=2,
        layer_types=["linear_attention", "full_attention"],
    )
    module = OlmoHybridGatedDeltaNet(config, 0).eval()
    module.o_norm.variance_epsilon = spec.norm_epsilon
    q, k = weights["wqk"]
    taps = torch.cat([part.flatten(0, 1) for part in (*weights["conv_qk"], weights["conv_v"])])
    put(
        module,
        q_proj__weight=q,
        k_proj__weight=k,
        v_proj__weight=weights["wv"],
        a_proj__weight=weights["wdt"],
        b_proj__weight=weights["wb"],
        g_proj__weight=weights["wz"],
        conv1d__weight=taps.flip(-1),
        dt_bias=weights["dt_bias"],
        A_log=weights["a_log"],
        o_norm__weight=weights["norm"],
        o_proj__weight=weights["wo"],
    )
    return lambda x: module(x)
