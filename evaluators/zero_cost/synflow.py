"""Synaptic flow: how much runs through a network whose weights are all positive.

    R = sum of the outputs with |w| in the place of w        log10 of the sum over weights of |w dR/dw|

Tanaka et al. 2020, arXiv:2006.05467, section 6. It is defined for networks of products and ReLUs, fed with
ones. Here the tokens of the batch are read (with |w|, their embeddings are positive), and norms, gates and
softmax stay as they are. The logarithm, of numbers that grow with the power of the depth, orders alike.
"""

from __future__ import annotations

import torch
from torch.func import functional_call

from evaluators.zero_cost.base import Probe, zero_costs


@zero_costs.add
def synflow(probe: Probe) -> float:
    """Decimal logarithm of the synaptic flow through positive weights."""
    parameters = dict(probe.model.named_parameters())
    weights = {name: weight.detach().abs().requires_grad_() for name, weight in parameters.items()}
    logits = functional_call(probe.model, weights, (probe.tokens[:1],), tie_weights=False)
    body = [weights[name] for name in probe.body]
    slopes = torch.autograd.grad(logits.double().sum(), body, allow_unused=True, materialize_grads=True)
    flows = [(w.detach() * slope).abs().double().sum() for w, slope in zip(body, slopes, strict=True)]
    return float(torch.stack(flows).sum().log10())
