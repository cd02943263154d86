"""Adaptive precision: a layer whose channel mixer reads its weights at few bits for most tokens.

After MoBiQuant (Wang et al. 2026, arXiv:2602.20191), which routes every token to a number of bit slices of
the same weights. Here there are two, the bits b of the layer and the `low` leading ones of them
(`quantization.leading_bits`), and a router chooses as in mixture-of-depths (`routed_tokens`):

    y_t = mixer(x_t; W_b)  where r_t = w' x_t is positive,  mixer(x_t; W_low)  elsewhere

One set of codes is stored, that of b bits. The decision is that of the token alone, so decode equals prefill.
Only mixers of channels can do this: what one token writes into a sequence mixer is read by others. While
learning, gradients of rounding pass straight through, and so does that of the choice:

    dL/dr_t = sigmoid'(r_t) dL/dy_t . (mixer(x_t; W_b) - mixer(x_t; W_low))

No kernel here reads leading bits alone. Both results are computed from floats, and one is taken: what is
measured takes longer than a layer without a router, while analytic FLOPs and the roofline say what the layer
needs, one product and the bytes that it reads.

Shapes: B batch, T tokens, D d_model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from foundation.errors import IllegalArchitecture
from search_spaces.blocks.base import Block, Mixed, Mixer
from search_spaces.language.serialization import parts
from search_spaces.network.options.base import check_share
from search_spaces.network.options.routed_tokens import Router, RoutesTokens, share_of
from search_spaces.network.shell import Shell
from search_spaces.quantization.bits import Bits, WeightFormat, takes_few_bits
from search_spaces.quantization.leading_bits import FEWER, INTEGERS, leading_bits


@parts.add
@dataclass(frozen=True, kw_only=True)
class AdaptivePrecision(RoutesTokens):
    """Let about `share` of the tokens read the channel mixer at the layer's bits, the others at `low` bits.

    `balance` weighs the router's auxiliary loss. The share that really does is a metric of every run.
    """

    not_additive: ClassVar[str] = "sends tokens to one of two precisions"
    not_relaxable: ClassVar[str] = "a choice of bits for every token is not mixed with layers that have none"
    reads_channels_twice: ClassVar[bool] = True

    low: int = 4
    share: float = 0.25
    balance: float = 0.1

    @classmethod
    def beside(cls) -> dict[str, Any]:
        """Integers."""
        return {"bits": Bits(weight=8)}

    def check(self) -> None:
        """Raise `IllegalArchitecture` for values out of range."""
        check_share(self, "share")
        if self.low not in FEWER:
            raise IllegalArchitecture(f"AdaptivePrecision: low must be one of {FEWER}, got {self.low!r}")
        super().check()

    def check_layer(self, layer: Any, d_model: int) -> None:
        """See `LayerOption.check_layer`: a channel mixer that remembers nothing, in integers of more bits."""
        block, bits = layer.channel_mixer, layer.bits_at("channel_mixer")
        if block is None or block.state(d_model):
            what = "no channel mixer" if block is None else f"{type(block).__name__}, which has a state"
            raise IllegalArchitecture(
                f"AdaptivePrecision needs a channel mixer that remembers nothing, and the layer has {what}"
            )
        if bits.weight not in INTEGERS or bits.stored.is_float8 or bits.weight <= self.low:
            more = [width for width in INTEGERS if width > self.low]
            raise IllegalArchitecture(
                f"AdaptivePrecision(low={self.low}) reads leading bits of integers, so the channel mixer"
                f" needs weights of {' or '.join(map(str, more))} bits, got {bits}"
            )

    def chosen(self, count: int) -> int:
        """How many of `count` tokens read all bits."""
        return share_of(self.share, count)

    def build(self, shell: Shell) -> PrecisionRouter:
        """The router."""
        return PrecisionRouter(self, shell.d_model, shell.norm)

    def unread(self, batch: int) -> float:
        """How often a decode step of so many sequences reads the leading bits alone."""
        return float((1 - self.share) ** batch)


class Sublayer(Protocol):
    """What a router lends leading bits to: `search_spaces.network.residual.Residual`."""

    block: Block
    bits: Bits
    mixer: Mixer


class PrecisionRouter(Router):
    """Chooses the tokens that read all bits, and lends the leading ones to the mixer for the others."""

    spec: AdaptivePrecision

    def __init__(self, spec: AdaptivePrecision, *sizes: Any) -> None:
        super().__init__(spec, *sizes)
        self._kept: dict[str, _Kept] = {}

    def mixed(self, read: Tensor, compute: Callable[[], Mixed], sublayer: Sublayer) -> Mixed:
        """The sublayer that reads x [B, T, D], at the precision of every token.

        `compute` runs it with the weights that its mixer holds. The share of tokens at all bits is the figure
        `precision.share`.
        """
        scores, full = self(read), compute()
        with self.lowered(sublayer):
            low = compute()
        high, losses = scores > 0, [each for each in (full.loss, low.loss) if each is not None]
        figures = {**(full.metrics or {}), "precision.share": high.float().mean()}
        if not (self.training and torch.is_grad_enabled()):
            return Mixed(torch.where(high[..., None], full.y, low.y), full.state, full.loss, figures)
        best = self.best(scores)
        high, chance = torch.zeros_like(high).scatter(1, best, True), scores.sigmoid()[..., None]
        straight = (chance - chance.detach()) * (full.y - low.y).detach()  # zero, but for its gradient
        y = torch.where(high[..., None], full.y, low.y) + straight.to(full.y.dtype)
        loss = self.loss(scores, best) + (sum(losses) / len(losses) if losses else 0)
        return Mixed(y, full.state, loss, figures)

    def stepped(
        self, read: Tensor, compute: Callable[[], tuple[Tensor, Any]], sublayer: Sublayer
    ) -> tuple[Tensor, Any]:
        """The same for one token x [B, D]."""
        high, (full, state) = self(read) > 0, compute()
        with self.lowered(sublayer):
            low, _ = compute()
        return torch.where(high[..., None], full, low), state

    @property
    def kept(self) -> list[Tensor]:
        """Values of leading bits that are kept from one call to the next."""
        return [kept.low for kept in self._kept.values()]

    @contextmanager
    def lowered(self, sublayer: Sublayer) -> Iterator[None]:
        """Meanwhile the mixer's parameters of the layer's bits hold what their leading bits say."""
        held: list[tuple[dict[str, Any], str, str, Tensor]] = [
            (module.__dict__["_parameters"], name, whole, weight)
            for path, module in sublayer.mixer.named_modules()
            for name, weight in module._parameters.items()
            if weight is not None
            and takes_few_bits(sublayer.block, whole := f"{path}.{name}".lstrip("."), tuple(weight.shape))
        ]
        try:
            for holder, name, whole, weight in held:
                holder[name] = self._low(whole, weight, sublayer.bits.stored)
            yield
        finally:
            for holder, name, _, weight in held:
                holder[name] = weight

    def _low(self, name: str, weight: Tensor, stored: WeightFormat) -> Tensor:
        """What the leading bits of a weight say; kept while the parameter of a model stays as it is."""
        compiling = torch.compiler.is_compiling() or torch.compiler.is_exporting()
        lent = not isinstance(weight, nn.Parameter)  # by weights that many networks share
        if compiling or lent or torch.is_grad_enabled() or torch.is_inference_mode_enabled():
            return leading_bits(weight, stored, self.spec.low)
        about = (weight._version, weight.data_ptr(), weight.dtype, weight.device)
        kept = self._kept.get(name)
        if kept is None or kept.weight is not weight or kept.about != about:
            kept = self._kept[name] = _Kept(weight, about, leading_bits(weight, stored, self.spec.low))
        return kept.low


class _Kept(NamedTuple):
    """A parameter, what would be different were it changed, and what its leading bits said."""

    weight: Tensor
    about: tuple[Any, ...]
    low: Tensor
