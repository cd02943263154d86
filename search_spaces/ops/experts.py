"""Top-k routed experts: tokens sorted by expert, one product per expert on its own tokens.

    y = sum over the chosen experts e of  gate_e * down_e (silu(gated_e x) * up_e x)

Another function may stand between the matrices, and each of them may have a bias (`Inside`).

On a GPU the products of all experts are one grouped kernel, where it takes the dtype and the strides, and
what stands around them are kernels of our own (`search_spaces.ops.kernels.experts`). On a CPU a loop over the
experts that were chosen is as fast and takes everything. A token that an expert has no room for gets the gate
zero there: the products are over sorted tokens of any number, so a capacity is a rule of training here, and
saves neither memory nor time.

A loop reads from the device how many tokens each expert got. Where that is not possible (`torch.export`, and
a decoding step that the grouped kernel does not support), shapes must not depend on data: few tokens each
fetch the matrices of their experts, many tokens pass through all experts.

Shapes: B batch, T tokens, N = B*T, E experts, k chosen experts per token, D d_model, F hidden.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function

from search_spaces.ops import dispatch
from search_spaces.ops.activations import GATED
from search_spaces.ops.precision import in_autocast

KERNEL = dispatch.register("routed experts, around their products", "experts")
GROUPED_DTYPES = (torch.bfloat16, torch.float16, torch.float32)


def route(logits: Tensor, top_k: int) -> tuple[Tensor, Tensor]:
    """Gates and indices [..., k] of the chosen experts; gates are the softmax over the chosen logits."""
    chosen, index = logits.topk(top_k, dim=-1)
    return chosen.softmax(-1), index


class ExpertWeights(NamedTuple):
    """The matrices of all SwiGLU experts: gated and up [E, F, D], down [E, D, F]."""

    gated: Tensor
    up: Tensor
    down: Tensor


@dataclass(frozen=True)
class Inside:
    """What is inside of experts beside their matrices.

    `function` makes the hidden channels of the gate and of what it gates; biases are [E, F], [E, F] and
    [E, D], all or none of them.
    """

    function: Callable[[Tensor, Tensor], Tensor] = GATED["silu"]
    gated: Tensor | None = None
    up: Tensor | None = None
    down: Tensor | None = None

    def hidden(self, gate: Tensor, up: Tensor, expert: Tensor | int) -> Tensor:
        """The hidden channels [..., F] of products [..., F], for an expert or one for each row."""
        if self.gated is not None and self.up is not None:
            gate, up = gate + self.gated[expert], up + self.up[expert]
        return self.function(gate, up)

    def output(self, y: Tensor, expert: Tensor | int) -> Tensor:
        """The output [..., D] of products [..., D]."""
        return y if self.down is None else y + self.down[expert]


PLAIN = Inside()


def expert_mixture(
    x: Tensor,
    gates: Tensor,
    index: Tensor,
    weights: ExpertWeights,
    inside: Inside = PLAIN,
    *,
    few: bool | None = None,
) -> Tensor:
    """Outputs [N, D] of tokens x [N, D], with the gates and indices [N, k] of their experts.

    `few` says whether there are few tokens for so many experts, where they shall not be counted: a program
    that is exported for any batch cannot. Under autocast all is of its precision: products of groups are not
    among those that torch casts.
    """
    x, gates, weights = in_autocast(x), in_autocast(gates), ExpertWeights(*map(in_autocast, weights))
    top_k, experts = index.shape[-1], weights.up.shape[0]
    grouped = x.is_cuda and x.dtype in GROUPED_DTYPES and all(map(_aligned, (x, *weights)))
    few = index.numel() <= experts if few is None else few
    if torch.compiler.is_exporting() or (x.is_cuda and few and not grouped):
        form = expert_mixture_fetched if few else expert_mixture_plainly
        return form(x, gates, index, weights, inside)
    order = index.flatten().argsort(stable=True)
    token = order // top_k
    ends = counts(index, experts).cumsum(0)
    if grouped and dispatch.runs(KERNEL, x, gates):
        kernel = dispatch.load(KERNEL)
        place, fused = kernel.places(order, top_k), replace(inside, function=kernel.fused(inside.function))
        y = _grouped(kernel.spread(x, token, place), ends, weights, fused, index.flatten()[order])
        gathered: Tensor = kernel.gathered(y, gates, place)
        return gathered
    if grouped:
        y = _grouped(x[token], ends, weights, inside, index.flatten()[order])
    else:
        y = _looped(x[token], ends, weights, inside).to(x.dtype)  # biases may be exact
    return torch.zeros_like(x).index_add(0, token, y * gates.flatten()[order, None])


def expert_mixture_fetched(
    x: Tensor, gates: Tensor, index: Tensor, weights: ExpertWeights, inside: Inside = PLAIN
) -> Tensor:
    """The same with a copy of the matrices of the chosen experts for each token."""
    gated, up, down = weights
    x = x[:, None].expand(-1, index.shape[-1], -1)
    hidden = inside.hidden(linear_each(x, gated[index]), linear_each(x, up[index]), index)
    return (inside.output(linear_each(hidden, down[index]), index) * gates[..., None]).sum(1)


def linear_each(x: Tensor, weight: Tensor) -> Tensor:
    """x [..., D] by a weight [..., F, D] for each; to a `TorchFunctionMode` this is one function of torch."""
    if has_torch_function((x, weight)):
        product: Tensor = handle_torch_function(linear_each, (x, weight), x, weight)
        return product
    return (weight @ x[..., None]).squeeze(-1)


def expert_mixture_plainly(
    x: Tensor, gates: Tensor, index: Tensor, weights: ExpertWeights, inside: Inside = PLAIN
) -> Tensor:
    """The same with every expert on every token."""
    everything = torch.stack(
        [_one(x, e, matrices, inside) for e, matrices in enumerate(zip(*weights, strict=True))], dim=1
    )
    weight = torch.zeros(x.shape[0], weights.up.shape[0], dtype=x.dtype, device=x.device).scatter(
        1, index, gates
    )
    return (everything * weight[..., None]).sum(1)


def counts(index: Tensor, experts: int) -> Tensor:
    """How often each of the experts was chosen [E]."""
    chosen = index.flatten()
    return torch.zeros(experts, dtype=torch.long, device=index.device).scatter_add(
        0, chosen, torch.ones_like(chosen)
    )


def choices_with_room(index: Tensor, experts: int, capacity: int, requested: Tensor | None = None) -> Tensor:
    """Which choices [B, T, k] find room, when each expert takes `capacity` of each sequence.

    Room goes to the earlier token, and of one token to its better expert, so it depends on no later token.
    Choices that are not `requested` take none and get none.
    """
    claims = F.one_hot(index.flatten(1), experts)
    if requested is not None:
        claims = claims * requested.flatten(1)[..., None]
    place = (claims.cumsum(1) * claims).sum(-1).view_as(index)
    return (place > 0) & (place <= capacity)


def choices_with_room_plainly(
    index: Tensor, experts: int, capacity: int, requested: Tensor | None = None
) -> Tensor:
    """The same, one choice after the other."""
    kept = torch.zeros_like(index, dtype=torch.bool)
    for row in range(index.shape[0]):
        taken = [0] * experts
        for t in range(index.shape[1]):
            for choice, expert in enumerate(index[row, t].tolist()):
                if (requested is None or requested[row, t, choice]) and taken[expert] < capacity:
                    taken[expert] += 1
                    kept[row, t, choice] = True
    return kept


def hashed_uniform(logits: Tensor) -> Tensor:
    """A number in [0, 1) per token from its own router logits [..., E], as if drawn at random.

    It is a hash of the logits' bfloat16 bits (multiply and fold, as in the finaliser of MurmurHash3): no
    global random state, the same for the same token, and new after every step that moves the router.
    """
    words = logits.detach().to(torch.bfloat16).view(torch.int16).long()
    place = torch.arange(logits.shape[-1], device=logits.device)
    mixed = (words * (2 * place + 1) * 0x9E3779B97F4A7C1).sum(-1)
    for factor in (0x7F51AFD7ED558CCD, 0x44CEB9FE1A85EC53):
        mixed = (mixed ^ ((mixed >> 33) & 0x7FFFFFFF)) * factor  # shifts of signed numbers copy the sign
    return ((mixed >> 33) & 0xFFFFFF).to(torch.float32) / 2**24


def load_balance(logits: Tensor, index: Tensor) -> Tensor:
    """E times the sum over experts of (share of tokens) * (mean probability): 1 when balanced.

    The auxiliary loss of Switch Transformers (Fedus et al. 2021, arXiv:2101.03961, section 2.2), with all
    choices of `index` [..., k] counted.
    """
    return balance_of(logits.softmax(-1), index)


def balance_of(probabilities: Tensor, index: Tensor) -> Tensor:
    """The same for given probabilities [..., E]."""
    experts = probabilities.shape[-1]
    share = counts(index, experts).to(probabilities.dtype) / index.numel()
    return experts * (share * probabilities.flatten(0, -2).mean(0)).sum()


def z_loss(logits: Tensor) -> Tensor:
    """The mean square of log sum exp of the router logits [..., E], which keeps them small.

    Zoph et al. 2022 (ST-MoE), arXiv:2202.08906, equation 5.
    """
    return logits.logsumexp(-1).square().mean()


def _one(x: Tensor, expert: int, matrices: tuple[Tensor, Tensor, Tensor], inside: Inside) -> Tensor:
    """One expert on x [N, D]."""
    gated, up, down = matrices
    hidden = inside.hidden(F.linear(x, gated), F.linear(x, up), expert)
    return inside.output(F.linear(hidden, down), expert)


def _grouped(x: Tensor, ends: Tensor, weights: ExpertWeights, inside: Inside, expert: Tensor) -> Tensor:
    """Each expert on its own rows of x, which lie in the order of the experts up to `ends` [E].

    `expert` says which one it is for each row.
    """
    gated, up, down = weights
    offsets = ends.to(torch.int32)
    gate, other = (F.grouped_mm(x, matrices.mT, offs=offsets) for matrices in (gated, up))
    hidden = inside.hidden(gate, other, expert).to(x.dtype)
    return inside.output(F.grouped_mm(hidden, down.mT, offs=offsets), expert).to(x.dtype)


def _looped(x: Tensor, ends: Tensor, weights: ExpertWeights, inside: Inside) -> Tensor:
    """The same, one expert after the other.

    Taken apart at once: the gradient of one part by itself would be as large as the whole.
    """
    sizes = [b - a for a, b in pairwise([0, *ends.tolist()])]
    experts = enumerate(zip(*(matrices.unbind() for matrices in weights), strict=True))
    rows = x.split(sizes)
    return torch.cat([_one(rows[e], e, matrices, inside) for e, matrices in experts if sizes[e]])


def _aligned(matrices: Tensor) -> bool:
    """Whether rows start at multiples of 16 bytes, as the grouped kernel requires; allocations do.

    A compiler does not follow offsets: what it makes and what it is given begins at such a multiple.
    """
    wide = 16 // matrices.itemsize
    return (
        (torch.compiler.is_dynamo_compiling() or matrices.storage_offset() % wide == 0)
        and all(step % wide == 0 for step in matrices.stride()[:-1])
        and matrices.shape[-1] % wide == 0
    )
