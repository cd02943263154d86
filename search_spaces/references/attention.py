"""Softmax attention and its relatives: from transformers, or from the equation."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from search_spaces.blocks.attention import Attention
from search_spaces.blocks.block_sparse_attention import BlockSparseAttention
from search_spaces.blocks.differential_attention import DifferentialAttention
from search_spaces.blocks.latent_attention import LatentAttention
from search_spaces.blocks.rotary_scaling import RotaryScaling, YarnScaling
from search_spaces.references import Function, Weights, put, reference

LLAMA = ("num_heads", "num_kv_heads", "head_dim", "window", "rotary", "dilation", "global_tokens")
"""What Llama's attention, with a mask, has of ours."""


@reference(Attention, source="transformers LlamaAttention, or the equation", needs="transformers")
def llama(spec: Attention, weights: Weights, d_model: int) -> Function:
    """Rotary attention with grouped keys; windows by a mask. Variants that Llama has not, by the equation."""
    usual = Attention(**{name: getattr(spec, name) for name in LLAMA})
    if spec != usual:
        return by_head(spec, weights)
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaAttention, LlamaRotaryEmbedding

    config = LlamaConfig(
        hidden_size=spec.num_heads,
        num_attention_heads=spec.num_heads,
        num_key_value_heads=spec.num_kv_heads,
        head_dim=spec.head_dim,
    )
    config.hidden_size = d_model  # the configuration wants a multiple of the heads, the module does not
    config._attn_implementation = "eager"
    module, rotary = LlamaAttention(config, 0).eval(), LlamaRotaryEmbedding(config)
    names = {"q_proj__weight": "wq", "k_proj__weight": "wk", "v_proj__weight": "wv", "o_proj__weight": "wo"}
    put(module, **{name: weights[ours] for name, ours in names.items()})

    def run(x: Tensor) -> Tensor:
        time = torch.arange(x.shape[1])
        age = time[:, None] - time
        near = (age < (spec.window or x.shape[1]) * spec.dilation) & (age % spec.dilation == 0)
        seen = (age >= 0) & (near | (time < spec.global_tokens))
        mask = torch.zeros(age.shape).masked_fill(~seen, float("-inf"))
        still = torch.ones(1, x.shape[1], spec.head_dim), torch.zeros(1, x.shape[1], spec.head_dim)
        turned = rotary(x, time[None]) if spec.rotary else still
        return module(x, turned, mask[None, None])[0]

    return run


def by_head(spec: Attention, weights: Weights) -> Function:
    """All variants, one head and one query at a time."""
    weights = {name: weight.double() for name, weight in weights.items()}
    width = spec.head_dim
    nothing = torch.zeros((), dtype=torch.float64)

    def projected(x: Tensor, name: str) -> Tensor:
        y = torch.einsum("btd,hkd->bthk", x, weights[f"w{name}"])
        return y + weights[f"b{name}"][..., 0] if f"b{name}" in weights else y

    def part(x: Tensor, name: str, head: int) -> Tensor:
        every = projected(x, name)
        y = every[:, :, head]
        if spec.qk_norm and name != "v":
            alone = spec.qk_norm_over == "head"
            gain = weights[f"{name}_norm"] if alone else weights[f"{name}_norm_heads"][head, :, 0]
            normed = y if alone else every.flatten(-2)
            y = y / (normed.square().mean(-1, keepdim=True) + spec.qk_norm_epsilon).sqrt() * gain
        if spec.rotary and name != "v":
            count = round(spec.rotary_share * width)
            y = torch.cat(
                (turned(y[..., :count], spec.rotary_base, spec.rotary_scaling), y[..., count:]), dim=-1
            )
        return y

    def sees(t: int, s: int) -> bool:
        near = spec.window is None or (t - s < spec.window * spec.dilation and (t - s) % spec.dilation == 0)
        return s <= t and (near or s < spec.global_tokens)

    def run(x: Tensor) -> Tensor:
        x, outputs = x.double(), []
        for head in range(spec.num_heads):
            group = head // (spec.num_heads // spec.num_kv_heads)
            q, k, v = part(x, "q", head), part(x, "k", group), part(x, "v", group)
            rows = []
            for t in range(x.shape[1]):
                seen = [s for s in range(t + 1) if sees(t, s)]
                logits = torch.einsum("bk,bsk->bs", q[:, t], k[:, seen]) * (spec.scale or width**-0.5)
                if spec.softcap is not None:
                    logits = spec.softcap * torch.tanh(logits / spec.softcap)
                rest = weights["sinks"][head, 0].exp() if spec.sinks else nothing
                weight = logits.exp() / (logits.exp().sum(-1, keepdim=True) + rest)
                rows.append(torch.einsum("bs,bsk->bk", weight, v[:, seen]))
            outputs.append(torch.stack(rows, dim=1))
        heads = torch.stack(outputs, dim=2)
        if spec.output_gate:
            heads = heads * torch.einsum("btd,hkd->bthk", x, weights["wz"]).sigmoid()
        y = torch.einsum("bthk,dhk->btd", heads, weights["wo"])
        return y + weights["bo"] if "bo" in weights else y

    return run


def future(count: int) -> Tensor:
    """A mask to add that hides the future."""
    return torch.full((count, count), float("-inf")).triu(1)[None, None]


def heads_of(x: Tensor, weight: Tensor) -> Tensor:
    """x [B, T, D] by weight [H, K, D]: [B, H, T, K]."""
    return torch.einsum("btd,hkd->bhtk", x, weight)


def turned(x: Tensor, base: float = 10_000.0, scaling: RotaryScaling | None = None) -> Tensor:
    """Rotary positions as complex numbers; how angles are scaled is held against transformers elsewhere."""
    width, time = x.shape[-1], torch.arange(x.shape[-2], dtype=torch.float64)
    each = base ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angle = time[:, None] * (each if scaling is None else scaling.angles(each, base))
    length = torch.ones_like(angle) * (1.0 if scaling is None else scaling.magnitude)
    spun = torch.complex(x[..., : width // 2], x[..., width // 2 :]) * torch.polar(length, angle)
    return torch.cat((spun.real, spun.imag), dim=-1)


def mixed(weighed: Tensor, v: Tensor, wo: Tensor) -> Tensor:
    """The output for any weights [B, H, T, T] that are positive: normalised, times values, merged."""
    weighed = weighed / weighed.sum(-1, keepdim=True)
    return torch.einsum("bhts,bhsk,dhk->btd", weighed, v, wo)


def masked_attention(weights: Weights, visible: Callable[[int, int], bool], rotary: bool) -> Function:
    """Softmax attention in which token t sees s where `visible(t, s)`."""
    weights = {name: weight.double() for name, weight in weights.items()}

    def reference(x: Tensor) -> Tensor:
        count = x.shape[1]
        q, k, v = (heads_of(x.double(), weights[name]) for name in ("wq", "wk", "wv"))
        if rotary:
            q, k = turned(q), turned(k)
        k, v = (part.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for part in (k, v))
        mask = torch.tensor([[float(s <= t and visible(t, s)) for s in range(count)] for t in range(count)])
        return mixed((q @ k.mT / q.shape[-1] ** 0.5).exp() * mask, v, weights["wo"])

    return reference


@reference(DifferentialAttention, source="transformers DiffLlamaAttention", needs="transformers")
def diff_llama(spec: DifferentialAttention, weights: Weights, d_model: int) -> Function:
    """The whole layer, its start value of lambda as the field says."""
    from transformers import DiffLlamaConfig
    from transformers.models.diffllama.modeling_diffllama import (
        DiffLlamaAttention,
        DiffLlamaRotaryEmbedding,
    )

    config = DiffLlamaConfig(
        hidden_size=2 * spec.num_heads,
        num_attention_heads=2 * spec.num_heads,
        num_key_value_heads=2 * spec.num_kv_heads,
        head_dim=spec.head_dim,
        rms_norm_eps=1e-6,
    )
    config.hidden_size = d_model
    config._attn_implementation = "eager"
    module, rotary = DiffLlamaAttention(config, 0).eval(), DiffLlamaRotaryEmbedding(config)
    module.lambda_init = spec.lambda_init
    put(
        module,
        q_proj__weight=weights["wq"],
        k_proj__weight=weights["wk"],
        v_proj__weight=weights["wv"],
        o_proj__weight=weights["wo"],
        lambda_q1=weights["lambda_q"][0],
        lambda_q2=weights["lambda_q"][1],
        lambda_k1=weights["lambda_k"][0],
        lambda_k2=weights["lambda_k"][1],
    )

    def reference(x: Tensor) -> Tensor:
        count = x.shape[1]
        return module(x, rotary(x, torch.arange(count)[None]), future(count))[0]

    return reference


def yarn(spec: LatentAttention) -> dict[str, object]:
    """Rotary positions as a configuration says it: as they are, or stretched by YaRN.

    Raises:
        ValueError: they are stretched otherwise.
    """
    scaling = spec.rotary_scaling
    if scaling is None:
        return {"rope_type": "default", "rope_theta": spec.rotary_base}
    if not isinstance(scaling, YarnScaling):
        raise ValueError(f"positions are stretched by YaRN alone here, got {scaling}")
    return {
        "rope_type": "yarn",
        "rope_theta": spec.rotary_base,
        "factor": scaling.factor,
        "beta_slow": scaling.slow,
        "beta_fast": scaling.quick,
        "original_max_position_embeddings": scaling.length,
        "attention_factor": scaling.magnitude,
        "truncate": scaling.whole_pairs,
    }


@reference(LatentAttention, source="transformers DeepseekV2Attention", needs="transformers")
def deepseek(spec: LatentAttention, weights: Weights, d_model: int) -> Function:
    """The whole layer."""
    from transformers import DeepseekV2Config
    from transformers.models.deepseek_v2.modeling_deepseek_v2 import (
        DeepseekV2Attention,
        DeepseekV2RotaryEmbedding,
    )

    config = DeepseekV2Config(
        hidden_size=spec.num_heads,
        num_attention_heads=spec.num_heads,
        num_key_value_heads=spec.num_heads,
        q_lora_rank=spec.q_rank,
        kv_lora_rank=spec.kv_rank,
        qk_nope_head_dim=spec.head_dim,
        qk_rope_head_dim=spec.rope_dim,
        v_head_dim=spec.values,
        rope_parameters=yarn(spec),
    )
    config.hidden_size = d_model  # the configuration wants a multiple of the heads, the module does not
    config._attn_implementation = "eager"
    module, rotary = DeepseekV2Attention(config, 0).eval(), DeepseekV2RotaryEmbedding(config)
    # DeepSeek turns neighbouring channels, we the two halves
    order = torch.arange(spec.rope_dim).unflatten(0, (2, -1)).T.flatten()
    inner = {name: w.index_select(-2, order) if "turned" in name else w for name, w in weights.items()}
    if spec.q_rank is None:
        queries = {"q_proj__weight": torch.cat((inner["wq"], inner["wq_turned"]), dim=1)}
    else:
        queries = {
            "q_a_proj__weight": inner["wq_down"],
            "q_a_layernorm__weight": inner["q_norm"],
            "q_b_proj__weight": torch.cat((inner["wq_up"], inner["wq_up_turned"]), dim=1),
        }
    module.scaling = spec.scale or module.scaling
    put(
        module,
        **queries,
        kv_a_proj_with_mqa__weight=torch.cat((inner["wc"], inner["wk_turned"])),
        kv_a_layernorm__weight=weights["norm"],
        kv_b_proj__weight=torch.cat((weights["wk"], weights["wv"]), dim=1),
        o_proj__weight=weights["wo"],
    )

    def reference(x: Tensor) -> Tensor:
        count = x.shape[1]
        angles = rotary(x, torch.arange(count)[None])
        angles = angles if spec.rotary else torch.ones_like(angles)
        return module(x, future(count), position_embeddings=angles)[0]

    return reference


@reference(BlockSparseAttention, source="its pattern as a dense mask")
def big_bird(spec: BlockSparseAttention, weights: Weights, d_model: int) -> Function:
    """The pattern and its hash with Python's numbers."""
    size, window = spec.block_size, spec.window_blocks
    first, runs = spec.global_blocks, spec.random_blocks

    def noise(block: int, run: int) -> int:
        x = (block * 0x9E3779B1 + (run + 1) * 0x5851F42D) % 2**31
        for multiplier in (0x2C1B3C6D, 0x297A2D39):
            x = (x ^ (x >> 15)) * multiplier % 2**31
        return x ^ (x >> 15)

    def draws(block: int) -> set[int]:
        between = list(range(first, block - window + 1))
        cuts = [run * len(between) // runs for run in range(runs + 1)] if runs else [0]
        parts = [between[low:high] for low, high in pairwise(cuts)]
        return {part[noise(block, run) % len(part)] for run, part in enumerate(parts) if part}

    def visible(t: int, s: int) -> bool:
        query, key = t // size, s // size
        return key < first or key > query - window or key in draws(query)

    return masked_attention(weights, visible, rotary=True)
