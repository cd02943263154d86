"""What stands around the layers of a mixture: all its shells at once, at all widths and with all norms.

Shapes: B batch, T tokens, D the largest d_model, V vocab.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from search_spaces.mixture.masked_blocks import Shared
from search_spaces.mixture.mixed_norms import WeightedNorms, WeightedWidths, mixed_norm
from search_spaces.network.shell import Shell

WeightedShells: TypeAlias = "Sequence[tuple[Shell, Tensor | None]]"
"""Shells at the largest width with their shares; without a share, the only one. Their norms do not count."""


@dataclass(frozen=True)
class MixedShell:
    """The weighted sum of shells, read from the shared weights of a supernet."""

    shells: WeightedShells
    widths: WeightedWidths
    norms: WeightedNorms
    shared: Shared

    def embed(self, tokens: Tensor) -> Tensor:
        """The residual stream [B, T, D] of tokens [B, T]."""
        parts = []
        for (shell, share), weights in zip(self.shells, self._weights, strict=True):
            part = shell.embed(tokens, weights, scale=self._scale(shell, weights))
            parts.append(part if share is None else share * part)
        return parts[0] if len(parts) == 1 else torch.stack(parts).sum(0)

    def logits(self, x: Tensor) -> Tensor:
        """Logits [B, T, V] of the residual stream [B, T, D]."""

        def vector(name: str) -> Tensor:
            return self.shared.plain(name, ())

        widest = self.shells[0][0].d_model
        normed = mixed_norm(x, self.norms, self.widths, vector=vector, padded_to=widest)
        parts = []
        for (shell, share), weights in zip(self.shells, self._weights, strict=True):
            part = shell.read_out(normed, weights)
            parts.append(part if share is None else share * part)
        return parts[0] if len(parts) == 1 else torch.stack(parts).sum(0)

    @cached_property
    def _weights(self) -> list[dict[str, Tensor]]:
        """The matrices of each shell."""
        return [{name: self._matrix(shell, name) for name in shell.matrices} for shell, _ in self.shells]

    def _matrix(self, shell: Shell, name: str) -> Tensor:
        """A matrix [V, D], rounded at every width: few bits have scales by row, which depend on it."""
        (vocab, widest), stored = shell.shapes[name], shell.bits_of(name).stored
        if stored.bits == 16 or all(d_model == widest for d_model, _ in self.widths):
            return self.shared.rounded(name, (slice(vocab), slice(widest)), stored)
        terms, shares = [], []
        for d_model, share in self.widths:
            rounded = self.shared.rounded(name, (slice(vocab), slice(d_model)), stored)
            weight = rounded.new_ones(()) if share is None else share
            terms.append(F.pad(weight * rounded, (0, widest - d_model)))
            shares.append(F.pad(weight.expand(d_model), (0, widest - d_model)))
        covered = torch.stack(shares).sum(0)
        return torch.stack(terms).sum(0) / torch.where(covered == 0, 1.0, covered)

    def _scale(self, shell: Shell, weights: dict[str, Tensor]) -> Tensor:
        """What multiplies each channel of the embedding: that of every width, none beyond it."""
        row = next(iter(weights.values()))[0]
        mixed = torch.zeros_like(row)
        for d_model, share in self.widths:
            scale = row.new_full((d_model,), replace(shell, d_model=d_model).scale)
            if share is None:
                return scale
            mixed = mixed + F.pad(share * scale, (0, shell.d_model - d_model))
        return mixed
