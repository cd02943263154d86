"""QLoRA's memory: matrices that are adapted stay in 4 bits, and are whole for one sublayer at a time.

    y = sublayer(x; W_4bits + (alpha / r) B A)        made in the forward pass, and again in the backward pass

Dettmers et al. 2023, arXiv:2305.14314, section 3. Every sublayer is a checkpoint (Chen et al. 2016,
arXiv:1604.06174): of a forward pass only what sublayers have read is kept, and neither a whole matrix nor its
gradient lives longer than its sublayer is computed. Any mixer can be adapted so, because the mixer itself
computes, with matrices in the place of its parameters. The arithmetic is that of rounded matrices held in 32
bits: the same values, bit for bit.

Shapes: B batch, T tokens, D d_model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from evaluators.compression.normal_float import StoredNormalFloat, stored_normal_float
from search_spaces.blocks.base import Mixed
from search_spaces.network.layer import Parts
from search_spaces.network.model import Model
from search_spaces.network.residual import Embedded, Residual


class QuantizedBase(Parts):
    """Matrices of a model in 4 bits; the model's own parameters in their place are empty until `restore`.

    `others` are made for each sublayer as well, and not stored.
    """

    def __init__(self, model: Model, names: Iterable[str], others: Iterable[str] = ()) -> None:
        wanted, more = set(names), list(others)
        self._parameters = {n: w for n, w in model.named_parameters() if n in wanted}
        self.stored: dict[str, StoredNormalFloat] = {}
        for name, weight in self._parameters.items():  # one after the other, so that both are never there
            self.stored[name] = stored_normal_float(weight)
            weight.data = weight.data.new_empty(0)
        self._own: dict[Residual, dict[str, str]] = {}
        for path, module in model.named_modules():
            if isinstance(module, Residual):
                inside = (n for n in (*self.stored, *more) if n.startswith(f"{path}."))
                self._own[module] = {name: name.removeprefix(f"{path}.") for name in inside}
        self._whole: Callable[[Iterable[str]], Mapping[str, Tensor]] | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of the stored matrices."""
        return sum(stored.nbytes for stored in self.stored.values())

    @property
    def tensors(self) -> dict[str, Tensor]:
        """What is stored, by name."""
        return {
            f"{name}.{part}": getattr(stored, part)
            for name, stored in self.stored.items()
            for part in ("codes", "scales", "steps", "mean")
        }

    @property
    def made(self) -> set[str]:
        """What is made sublayer by sublayer, by name."""
        return {name for own in self._own.values() for name in own}

    def values(self, name: str) -> Tensor:
        """A matrix, in the numbers of the model."""
        return self.stored[name].values(self._parameters[name].dtype)

    def computing_with(self, whole: Callable[[Iterable[str]], Mapping[str, Tensor]]) -> QuantizedBase:
        """These parts, with matrices that `whole` makes of their names when a sublayer needs them."""
        self._whole = whole
        return self

    def sublayer(
        self, sublayer: Residual, x: Tensor, embedded: Embedded | None = None, onto: Tensor | None = None
    ) -> Mixed:
        """A sublayer on x [B, T, D], its matrices made for it, and made again for its gradients."""
        own, whole = self._own[sublayer], self._whole
        if not own or whole is None:
            return super().sublayer(sublayer, x, embedded, onto)

        def computed(x: Tensor, onto: Tensor | None) -> Mixed:
            matrices = whole(own)
            given = {"embedded": embedded, "onto": onto}
            placed = {own[name]: matrices[name] for name in own}
            mixed: Mixed = functional_call(sublayer, placed, (x,), given, tie_weights=False)
            return mixed

        mixed: Mixed = checkpoint(computed, x, onto, use_reentrant=False)
        return mixed

    def restore(self) -> dict[str, Tensor]:
        """Room for whole matrices in the model's parameters, which are still to be filled."""
        for name, weight in self._parameters.items():
            weight.data = torch.empty(self.stored[name].shape, dtype=weight.dtype, device=weight.device)
        return {name: weight.detach() for name, weight in self._parameters.items()}
