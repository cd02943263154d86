"""A layer behind a router, which only some tokens pass; see `options.mixture_of_depths`.

Shapes: B batch, T tokens, D d_model.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from foundation.errors import SettingError
from search_spaces.network.decode_state import LayerState, in_steps
from search_spaces.network.layer import AS_THEY_ARE, DecoderLayer, Parts, PassContext, SideOutputs
from search_spaces.network.options.routed_tokens import Router


class RoutedLayer(DecoderLayer):
    """A layer with a router."""

    routing: Router

    def forward(
        self, x: Tensor, stored: LayerState | None, context: PassContext
    ) -> tuple[Tensor, LayerState]:
        """x [B, T, D] and the states after its last token; no states come back where none were given."""
        scores = self.routing(x)
        if self.routing.training and torch.is_grad_enabled():
            return self._pass_best(x, scores, stored, context), {}
        y, kept = self._pass_rows(x, scores, stored, context.embedding, context.parts)
        context.side.record(context.path, None, {"routing.share": (scores > 0).float().mean()})
        return y if context.left is None else torch.where(context.left[..., None], x, y), kept

    def step(
        self, x: Tensor, stored: LayerState, position: int | Tensor, embedding: Tensor | None = None
    ) -> tuple[Tensor, LayerState]:
        """x [B, D], one token, and its embedding where some layer reads it."""
        embedding = None if embedding is None else embedding[:, None]
        y, kept = self._pass_rows(x[:, None], self.routing(x[:, None]), stored, embedding)
        return y[:, 0], kept

    def absorb(
        self, x: Tensor, stored: LayerState, position: int | Tensor, embedding: Tensor | None = None
    ) -> LayerState:
        """The states after one token x [B, D] that has left the network."""
        return self.step(x, stored, position, embedding)[1]

    def init_state(self, batch: int, capacity: int) -> LayerState:
        """Empty states in their stored form, with room for the tokens that pass."""
        state = super().init_state(batch, self.routing.spec.chosen(capacity))
        counts = torch.zeros(batch, dtype=torch.long, device=self.routing.weight.device)
        return state | {"routing": {"count": counts}}

    def grown(self, stored: LayerState, capacity: int) -> LayerState:
        """The same states: behind a router they grow by what passes."""
        return stored

    def _pass_best(
        self, x: Tensor, scores: Tensor, stored: LayerState | None, context: PassContext
    ) -> Tensor:
        """While learning: the best tokens of each sequence pass together."""
        if stored:
            raise SettingError("a layer with a router learns from whole sequences, not from pieces")
        best = self.routing.best(scores)
        index = best[..., None].expand(-1, -1, x.shape[-1])
        chosen = x.gather(1, index)
        embedding = None if context.embedding is None else context.embedding.gather(1, index)
        y, _ = super().forward(chosen, None, replace(context, position=0, embedding=embedding))
        gate = scores.gather(1, best).sigmoid()[..., None]
        share = (scores > 0).float().mean()
        context.side.record(context.path, self.routing.loss(scores, best), {"routing.share": share})
        return x.scatter_add(1, index, gate * (y - chosen))

    def _pass_rows(
        self,
        x: Tensor,
        scores: Tensor,
        stored: LayerState | None,
        embedding: Tensor | None,
        parts: Parts = AS_THEY_ARE,
    ) -> tuple[Tensor, LayerState]:
        """At inference: each row of the batch by itself, because each has its own tokens and positions."""
        passing = scores > 0
        counts = stored["routing"]["count"] if stored else torch.zeros_like(passing[:, 0], dtype=torch.long)
        after = counts + passing.sum(1)
        if stored:
            stored = super().grown(stored, in_steps(int(after.max())))
        rows, states = [], []
        for row, position in enumerate(counts.tolist()):
            here = slice(row, row + 1)
            own = {p: {n: t[here] for n, t in stored[p].items()} for p in self.sublayers} if stored else None
            index = passing[row].nonzero()[:, 0]
            y, kept = x[here], own or {}
            if len(index):
                chosen = x[here, index]
                read = None if embedding is None else embedding[here, index]
                context = PassContext("", SideOutputs(), position, embedding=read, parts=parts)
                z, kept = super().forward(chosen, own, context)
                gate = scores[here, index].sigmoid()[..., None]
                y = y.index_add(1, index, gate * (z - chosen))
            rows.append(y)
            states.append(kept)
        if not stored:
            return torch.cat(rows), {}
        joined = {p: {n: torch.cat([s[p][n] for s in states]) for n in states[0][p]} for p in self.sublayers}
        return torch.cat(rows), joined | {"routing": {"count": after}}
