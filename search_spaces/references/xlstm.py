"""The memories of xLSTM: their recurrences as the paper has them, not stabilised."""

from __future__ import annotations

import torch
from torch import Tensor

from search_spaces.blocks.mlstm import MLSTM
from search_spaces.blocks.slstm import SLSTM
from search_spaces.references import Function, Weights, reference
from search_spaces.references.heads import head_by_head, log_forget, normed


@reference(MLSTM, source="its recurrence, not stabilised")
def matrix_lstm(spec: MLSTM, weights: Weights, d_model: int) -> Function:
    """Equations (19) to (27) of arXiv:2405.04517 as they stand: gates are not stabilised."""

    def head(x: Tensor, w: Weights, h: int) -> Tensor:
        q, k, v = (x @ w[name][h].T for name in ("wq", "wk", "wv"))
        q = q / spec.state_dim**0.5
        i, f = (15 * torch.tanh((x @ w["gates"][n, h] + w["gate_bias"][n, h]) / 15) for n in (0, 1))
        i, f = i.exp(), log_forget(f, spec.forget_gate).exp()
        memory = torch.zeros(x.shape[0], spec.state_dim, spec.head_dim).double()
        normaliser, outputs = memory[..., 0], []
        for t in range(x.shape[1]):
            forget, key = f[:, t, None], i[:, t, None] * k[:, t]
            memory = forget[..., None] * memory + key[..., None] * v[:, t, None]
            normaliser = forget * normaliser + key
            divisor = (normaliser * q[:, t]).sum(-1, keepdim=True).abs().clamp(min=1)
            outputs.append((memory * q[:, t, :, None]).sum(1) / divisor)
        o = torch.sigmoid(x @ w["wz"][h].T)
        return o * normed(torch.stack(outputs, dim=1), w["norm"][h])

    return head_by_head(spec, weights, head)


@reference(SLSTM, source="its recurrence, not stabilised")
def scalar_lstm(spec: SLSTM, weights: Weights, d_model: int) -> Function:
    """Equations (8) to (14) of arXiv:2405.04517 as they stand: gates are not stabilised."""

    def head(x: Tensor, w: Weights, h: int) -> Tensor:
        c = n = y = torch.zeros(x.shape[0], spec.head_dim).double()
        outputs = []
        for t in range(x.shape[1]):
            z, i, f, o = (
                x[:, t] @ w["wx"][gate, h].T + y @ w["recurrent"][gate, h].T + w["bias"][gate, h]
                for gate in range(4)
            )
            i, f = i.exp(), log_forget(f, spec.forget_gate).exp()
            c, n = f * c + i * z.tanh(), f * n + i
            y = torch.sigmoid(o) * c / n
            outputs.append(y)
        return normed(torch.stack(outputs, dim=1), w["norm"][h])

    return head_by_head(spec, weights, head)
