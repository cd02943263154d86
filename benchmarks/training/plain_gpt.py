"""The transformer that everybody writes, to compare with: RMSNorm, rotary grouped-query attention, SwiGLU.

Shapes: B batch, T tokens, D d_model, V vocab.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Sublayers(nn.Module):
    """One layer: x + attention(norm(x)), then x + swiglu(norm(x))."""

    def __init__(self, d_model: int, heads: int, kv_heads: int, expansion: int) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.width = heads, kv_heads, d_model // heads
        self.first, self.second = nn.RMSNorm(d_model), nn.RMSNorm(d_model)
        self.queries = nn.Linear(d_model, heads * self.width, bias=False)
        self.keys = nn.Linear(d_model, kv_heads * self.width, bias=False)
        self.values = nn.Linear(d_model, kv_heads * self.width, bias=False)
        self.out = nn.Linear(heads * self.width, d_model, bias=False)
        self.gated = nn.Linear(d_model, expansion * d_model, bias=False)
        self.up = nn.Linear(d_model, expansion * d_model, bias=False)
        self.down = nn.Linear(expansion * d_model, d_model, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """x [B, T, D]."""
        y = self.first(x)
        q = self.queries(y).unflatten(-1, (self.heads, self.width)).transpose(1, 2)
        k = self.keys(y).unflatten(-1, (self.kv_heads, self.width)).transpose(1, 2)
        v = self.values(y).unflatten(-1, (self.kv_heads, self.width)).transpose(1, 2)
        q, k = (part * cos + part.roll(self.width // 2, dims=-1) * sin for part in (q, k))
        y = F.scaled_dot_product_attention(q.to(v), k.to(v), v, is_causal=True, enable_gqa=True)
        x = x + self.out(y.transpose(1, 2).flatten(2))
        y = self.second(x)
        return x + self.down(F.silu(self.gated(y)) * self.up(y))


class PlainGPT(nn.Module):
    """A decoder-only transformer with tied embeddings."""

    cos: Tensor
    sin: Tensor

    def __init__(
        self, vocab: int, d_model: int, layers: int, *, length: int, heads: int = 8, kv_heads: int = 2
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab, d_model)
        self.layers = nn.ModuleList(Sublayers(d_model, heads, kv_heads, 3) for _ in range(layers))
        self.norm = nn.RMSNorm(d_model)
        width = d_model // heads
        angle = torch.arange(length)[:, None] * 10_000.0 ** -(torch.arange(0, width, 2) / width)
        self.register_buffer("cos", torch.cat((angle.cos(), angle.cos()), dim=-1))
        self.register_buffer("sin", torch.cat((-angle.sin(), angle.sin()), dim=-1))

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits [B, T, V] of tokens [B, T]."""
        x = self.embedding(tokens)
        for layer in self.layers:
            x = layer(x, self.cos, self.sin)
        return F.linear(self.norm(x), self.embedding.weight)
