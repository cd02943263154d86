"""GaLore: matrices are trained in full, while their optimizer lives in a space of low rank.

    R = P' G,   W <- W - rate s P adam(R)      P: the r first left singular vectors of a gradient G [N, K]

for N < K, and from the other side otherwise (Zhao et al. 2024, arXiv:2403.03507, algorithm 2). P is made
anew every so many steps; the moments of the optimizer stay. Within these steps this is W + s P B with B
learned by the gradient R, so the optimizer holds 2 r K values in the place of 2 N K.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

import torch
from torch import Tensor, nn

from evaluators.compression.low_rank import Form, Shape
from evaluators.compression.merged import Course, Merged
from evaluators.tasks.base import Task
from evaluators.training.losses import LateLosses
from foundation.errors import EvaluationFailed
from search_spaces.network.model import Model
from search_spaces.quantization.rounding import round_all

BASE, TURN = "base", "turn"
"""How what is kept beside the weights is called in a checkpoint."""


class GaLore(Merged):
    """The training of some matrices of a model by projected gradients; all else stays as it is."""

    usual_rate = 4.5e-3
    """The best of 4.5e-3, 9e-3, 18e-3 and 36e-3 for attention of width 32, of the first two for Mamba-2."""

    def __init__(
        self,
        model: Model,
        task: Task,
        form: Form,
        adapted: Mapping[str, Shape],
        every: int,
        **course: Unpack[Course],
    ) -> None:
        self.form, self.adapted, self.every = form, dict(adapted), every
        super().__init__(model, task, **course)

    def starts(self) -> dict[str, nn.Parameter]:
        """What is learned in each space, before there is one: zeros."""
        self._base = {name: self._matrix(name).clone() for name in self.adapted}
        self._turn = {name: self._first_turn(name) for name in self.adapted}
        return {
            name: nn.Parameter(torch.zeros_like(self._projected(name, base)))
            for name, base in self._base.items()
        }

    def _matrix(self, name: str) -> Tensor:
        """A parameter as matrices [S, N, K]."""
        shape = self.adapted[name]
        return self._weights[name].reshape(shape.stacked, shape.rows, shape.inputs)

    def _first_turn(self, name: str) -> Tensor:
        """Zeros [S, r, min(N, K)], until there is a gradient."""
        shape = self.adapted[name]
        return self._matrix(name).new_zeros(shape.stacked, self.form.rank, min(shape.rows, shape.inputs))

    def _from_left(self, name: str) -> bool:
        return self.adapted[name].rows < self.adapted[name].inputs

    def _projected(self, name: str, values: Tensor) -> Tensor:
        """Values [S, N, K] in the space of low rank: [S, r, K], or [S, r, N] from the right."""
        return self._turn[name] @ (values if self._from_left(name) else values.mT)

    def _moved(self, name: str) -> Tensor:
        """A matrix with what has been learned in the present space."""
        back = self._turn[name].mT @ self.parameters[name].detach()
        scale = self.form.alpha / self.form.rank
        return self._base[name] + scale * (back if self._from_left(name) else back.mT)

    @property
    def how(self) -> Mapping[str, Any]:
        """The rank, and how often the space is made anew."""
        return {"galore": [self.form.rank, self.form.alpha, self.every], "adapted": sorted(self.adapted)}

    def merged(self) -> dict[str, Tensor]:
        """See `Merged.merged`."""
        return round_all(self._unrounded(), self._bits)

    @torch.no_grad()
    def _unrounded(self) -> dict[str, Tensor]:
        return self._weights | {n: self._moved(n).view_as(self._weights[n]) for n in self.adapted}

    def gradients(self) -> LateLosses:
        """Of the next batch, projected; every so many steps the space is made anew first.

        Raises:
            EvaluationFailed: a gradient that a space is made of is not finite.
        """
        weights = self._unrounded()
        leaves = {name: weights[name].requires_grad_() for name in self.adapted}
        losses = self.backward(round_all(weights, self._bits))
        for name, leaf in leaves.items():
            gradient = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
            gradient = gradient.reshape(self._base[name].shape)
            if self.step % self.every == 0:
                if not gradient.isfinite().all():  # it has no singular vectors
                    raise EvaluationFailed(f"the gradient of {name} is not finite at step {self.step + 1}")
                self._make_anew(name, gradient)
            self.parameters[name].grad = self._projected(name, gradient)
        return losses

    @torch.no_grad()
    def _make_anew(self, name: str, gradient: Tensor) -> None:
        """Keep what was learned, and take the space of the largest directions of a gradient [S, N, K]."""
        self._base[name] = self._moved(name)
        self.parameters[name].zero_()
        exact = gradient.to(torch.promote_types(gradient.dtype, torch.float32))
        left, _, right = torch.linalg.svd(exact, full_matrices=False)
        turn = left.mT if self._from_left(name) else right
        self._turn[name] = turn[:, : self.form.rank].to(gradient.dtype).contiguous()

    def tensors(self) -> dict[str, Tensor]:
        """See `Trainable.tensors`: also the matrices and the spaces that learning is at."""
        kept = {f"{BASE}/{name}": value for name, value in self._base.items()}
        return super().tensors() | kept | {f"{TURN}/{name}": value for name, value in self._turn.items()}

    def restore(self, tensors: Mapping[str, Tensor], step: int) -> None:
        """See `Trainable.restore`."""
        others: dict[str, Any] = {}
        for flat, tensor in tensors.items():
            key, _, name = flat.partition("/")
            held = {BASE: self._base, TURN: self._turn}.get(key)
            if held is None:
                others[flat] = tensor
            else:
                held[name] = tensor.to(self._weights[name].device, copy=True)
        super().restore(others, step)
