"""RWKV: time mixing from the equations, channel mixing from transformers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from search_spaces.blocks.rwkv6 import RWKV6
from search_spaces.blocks.rwkv_channel_mix import RWKVChannelMix
from search_spaces.references import Function, Weights, put, reference
from search_spaces.references.heads import head_by_head, normed, silu


@reference(RWKV6, source="its recurrence, head by head")
def finch(spec: RWKV6, weights: Weights, d_model: int) -> Function:
    """Equations (11) to (19) of arXiv:2404.05892, one head and one token at a time."""

    def head(x: Tensor, w: Weights, h: int) -> Tensor:
        change = F.pad(x, (0, 0, 1, 0))[:, :-1] - x
        base = x + change * w["mix"][0]
        parts = []
        for i in range(5):
            low = torch.tanh(base @ w["mix_in"][i].T) @ w["mix_out"][i].T
            parts.append(x + change * (w["mix"][i + 1] + low))
        low = torch.tanh(parts[0] @ w["decay_in"].T) @ w["decay_out"][h].T
        fade = torch.exp(-torch.exp(w["decay"][h] + low))
        k, v, r, g = (
            part @ w[name][h].T for part, name in zip(parts[1:], ("wk", "wv", "wr", "wg"), strict=True)
        )
        memory, outputs = torch.zeros(x.shape[0], spec.state_dim, spec.head_dim).double(), []
        for t in range(x.shape[1]):
            new = k[:, t, :, None] * v[:, t, None, :]
            outputs.append(((memory + w["bonus"][h][:, None] * new) * r[:, t, :, None]).sum(1))
            memory = fade[:, t, :, None] * memory + new
        o = normed(torch.stack(outputs, dim=1), w["norm"][h], w["norm_bias"][h], eps=64e-5)
        return o * silu(g)

    return head_by_head(spec, weights, head)


@reference(RWKVChannelMix, source="transformers RwkvFeedForward", needs="transformers")
def rwkv_feed_forward(spec: RWKVChannelMix, weights: Weights, d_model: int) -> Function:
    """Theirs mixes by the share of this token, ours by that of the last."""

    from transformers import RwkvConfig
    from transformers.models.rwkv.modeling_rwkv import RwkvFeedForward

    module = RwkvFeedForward(RwkvConfig(hidden_size=d_model, intermediate_size=spec.hidden(d_model)))
    put(
        module,
        time_mix_key=1 - weights["mix"][0],  # theirs is the share of this token
        time_mix_receptance=1 - weights["mix"][1],
        key__weight=weights["wk"],
        receptance__weight=weights["wr"],
        value__weight=weights["wv"],
    )
    return lambda x: module(x)[0]
