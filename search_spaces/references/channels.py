"""Channel mixers as transformers computes them."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from search_spaces.blocks.deepseek_moe import DeepSeekMoE
from search_spaces.blocks.gshard import GShard
from search_spaces.blocks.moe import MoE
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.blocks.switch import Switch
from search_spaces.ops.experts import hashed_uniform
from search_spaces.references import Function, Weights, put, reference


@reference(SwiGLU, source="transformers LlamaMLP", needs="transformers")
def llama_mlp(spec: SwiGLU, weights: Weights, d_model: int) -> Function:
    """The gated MLP."""
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaMLP

    config = LlamaConfig(
        hidden_size=d_model,
        intermediate_size=spec.hidden(d_model),
        num_attention_heads=1,
        num_key_value_heads=1,
        mlp_bias=spec.biases,
        hidden_act={"gelu_tanh": "gelu_pytorch_tanh"}.get(spec.activation, spec.activation),
    )
    module = LlamaMLP(config)
    names = {"gate_proj": "gated", "up_proj": "up", "down_proj": "down"}
    values = {f"{name}__weight": weights[ours] for name, ours in names.items()}
    if spec.biases:
        values |= {f"{name}__bias": weights[f"{ours}_bias"] for name, ours in names.items()}
    put(module, **values)
    return lambda x: module(x)


@reference(MoE, source="transformers MixtralSparseMoeBlock", needs="transformers")
def mixtral(spec: MoE, weights: Weights, d_model: int) -> Function:
    """All chosen experts, nothing dropped."""
    from transformers import MixtralConfig
    from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock

    config = MixtralConfig(
        hidden_size=d_model,
        intermediate_size=spec.hidden(d_model),
        num_local_experts=spec.num_experts,
        num_experts_per_tok=spec.top_k,
    )
    config._experts_implementation = "eager"
    if spec.biases or spec.activation != "silu":
        return gpt_oss(spec, weights, d_model)
    module = MixtralSparseMoeBlock(config).eval()
    put(
        module,
        gate__weight=weights["router"],
        experts__gate_up_proj=torch.cat((weights["gated"], weights["up"]), dim=1),
        experts__down_proj=weights["down"],
    )
    return lambda x: module(x)


def gpt_oss(spec: MoE, weights: Weights, d_model: int) -> Function:
    """GptOssMLP: experts with biases and the clamped function."""
    from transformers import GptOssConfig
    from transformers.models.gpt_oss.modeling_gpt_oss import GptOssMLP

    if spec.activation != "clamped_silu" or not spec.biases:
        raise ValueError(f"transformers has no experts with {spec.activation} and biases={spec.biases}")
    config = GptOssConfig(
        hidden_size=d_model,
        intermediate_size=spec.hidden(d_model),
        num_local_experts=spec.num_experts,
        num_experts_per_tok=spec.top_k,
    )
    config._experts_implementation = "eager"
    module = GptOssMLP(config).eval()
    both = torch.stack((weights["gated"], weights["up"]), dim=2).flatten(1, 2)
    put(
        module,
        router__weight=weights["router"],
        router__bias=weights["router_bias"],
        experts__gate_up_proj=both.mT,
        experts__gate_up_proj_bias=torch.cat((weights["gated_bias"], weights["up_bias"]), dim=2),
        experts__down_proj=weights["down"].mT,
        experts__down_proj_bias=weights["down_bias"],
    )
    return lambda x: module(x)[0]


def expert(weights: Weights, e: int, x: Tensor) -> Tensor:
    """One SwiGLU expert on x [..., D]."""

    hidden = F.silu(x @ weights["gated"][e].T) * (x @ weights["up"][e].T)
    return hidden @ weights["down"][e].T


@reference(DeepSeekMoE, source="transformers DeepseekV3MoE and DeepseekV2Moe", needs="transformers")
def deepseek(spec: DeepSeekMoE, weights: Weights, d_model: int) -> Function:
    """DeepseekV3MoE for sigmoid gates, DeepseekV2Moe for softmax gates.

    Qwen3NextSparseMoeBlock for renormed gates.
    """
    if spec.gate == "renormed":
        return qwen3_next(spec, weights, d_model)
    from transformers import DeepseekV2Config, DeepseekV3Config
    from transformers.models.deepseek_v2.modeling_deepseek_v2 import DeepseekV2Moe
    from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3MoE

    settings: dict[str, Any] = {
        "hidden_size": d_model,
        "moe_intermediate_size": spec.hidden(d_model),
        "n_routed_experts": spec.num_experts,
        "num_local_experts": spec.num_experts,
        "num_experts_per_tok": spec.top_k,
        "n_shared_experts": spec.shared_experts or 1,
        "routed_scaling_factor": spec.gate_scale,
        "n_group": spec.groups,
        "topk_group": spec.top_groups,
        "num_attention_heads": 1,
        "num_key_value_heads": 1,
    }
    method = "greedy" if spec.groups == 1 else "group_limited_greedy"
    if spec.gate == "sigmoid":
        module: Any = DeepseekV3MoE(DeepseekV3Config(norm_topk_prob=True, **settings)).eval()
        module.gate.e_score_correction_bias = weights.get("bias", torch.zeros(spec.num_experts)).detach()
    else:
        config = DeepseekV2Config(norm_topk_prob=False, topk_method=method, **settings)
        module = DeepseekV2Moe(config).eval()
    module.config._experts_implementation = "eager"
    names = {
        "gate.weight": weights["router"],
        "experts.gate_up_proj": torch.cat((weights["gated"], weights["up"]), dim=1),
        "experts.down_proj": weights["down"],
    }
    if spec.shared_experts:
        names |= {
            "shared_experts.gate_proj.weight": weights["shared_gated"].flatten(0, 1),
            "shared_experts.up_proj.weight": weights["shared_up"].flatten(0, 1),
            "shared_experts.down_proj.weight": weights["shared_down"].flatten(1),
        }
    else:
        names |= {n: torch.zeros_like(p) for n, p in module.shared_experts.named_parameters("shared_experts")}
    if set(names) != {name for name, _ in module.named_parameters()}:
        raise ValueError("not every parameter of the reference is named")
    return lambda x: functional_call(module, names, (x,))


def qwen3_next(spec: DeepSeekMoE, weights: Weights, d_model: int) -> Function:
    """One shared expert with a gate."""
    from transformers import Qwen3NextConfig
    from transformers.models.qwen3_next.modeling_qwen3_next import Qwen3NextSparseMoeBlock

    if (spec.shared_experts, spec.shared_gate, spec.gate_scale, spec.bias_rate) != (1, True, 1, 0):
        raise ValueError("transformers has renormed gates beside one shared expert with a gate only")
    config = Qwen3NextConfig(
        hidden_size=d_model,
        moe_intermediate_size=spec.hidden(d_model),
        shared_expert_intermediate_size=spec.shared_hidden(d_model),
        num_experts=spec.num_experts,
        num_experts_per_tok=spec.top_k,
        norm_topk_prob=True,
    )
    config._experts_implementation = "eager"
    module = Qwen3NextSparseMoeBlock(config).eval()
    put(
        module,
        gate__weight=weights["router"],
        experts__gate_up_proj=torch.cat((weights["gated"], weights["up"]), dim=1),
        experts__down_proj=weights["down"],
        shared_expert__gate_proj__weight=weights["shared_gated"],
        shared_expert__up_proj__weight=weights["shared_up"],
        shared_expert__down_proj__weight=weights["shared_down"],
        shared_expert_gate__weight=weights["shared_gate"],
    )
    return lambda x: module(x)


@reference(Switch, source="transformers SwitchTransformersTop1Router", needs="transformers")
def switch(spec: Switch, weights: Weights, d_model: int) -> Function:
    """Their router; capacity in the order of the sequence, and our experts."""
    from transformers import SwitchTransformersConfig
    from transformers.models.switch_transformers.modeling_switch_transformers import (
        SwitchTransformersTop1Router,
    )

    config = SwitchTransformersConfig(d_model=d_model, num_experts=spec.num_experts, router_jitter_noise=0.0)
    router = SwitchTransformersTop1Router(config).eval()

    def run(x: Tensor) -> Tensor:
        # their router sums its queue over an axis of size one, so its own capacity never binds
        probability, chosen, _ = functional_call(router, {"classifier.weight": weights["router"]}, (x,))
        room = math.ceil(spec.capacity_factor * x.shape[1] / spec.num_experts)
        chosen = chosen.squeeze(-2)
        chosen = chosen * (chosen.cumsum(1) <= room)
        each = torch.stack([expert(weights, e, x) for e in range(spec.num_experts)], dim=-2)
        return probability * (each * chosen[..., None]).sum(-2)

    return run


@reference(GShard, source="its algorithm, token by token")
def gshard(spec: GShard, weights: Weights, d_model: int) -> Function:
    """Algorithm 1 of arXiv:2006.16668, one token at a time in the order of the sequence."""

    def reference(x: Tensor) -> Tensor:
        room = math.ceil(spec.capacity_factor * 2 * x.shape[1] / spec.num_experts)
        rows = []
        for row in x:
            taken, outputs = [0] * spec.num_experts, []
            for token in row:
                logits = weights["router"] @ token
                p = logits.softmax(0)
                first, second = p.argsort(descending=True)[:2].tolist()
                total = p[first] + p[second]
                y = torch.zeros_like(token)
                keep = bool(2 * p[second] / total > hashed_uniform(logits[None])[0])
                for e, requested in ((first, True), (second, keep)):
                    if requested and taken[e] < room:
                        taken[e] += 1
                        y = y + p[e] / total * expert(weights, e, token)
                outputs.append(y)
            rows.append(torch.stack(outputs))
        return torch.stack(rows)

    return reference
