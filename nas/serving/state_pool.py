"""The decode states of all running rows: recurrent ones in fixed slots, those that grow in pages.

A row takes a slot, and pages as its text grows; both come back when it ends. For a step, the states of the
running rows are gathered layer by layer (so that one layer's copy is all that is held beside the pool), and
the token that each row has written is put back into its page. Shared by both is a hybrid network as it is.

Shapes: R slots, B running rows, G rows of a token's state (kv heads), P tokens of a page, S slots of a
gathered state, W width of a row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from foundation.errors import SettingError
from foundation.text import size as shown_size
from foundation.wording import argument
from nas.serving.pages import Pages
from search_spaces.blocks.base import StateShape
from search_spaces.network.decode_state import DecodeState, LayerState, in_steps
from search_spaces.network.model import Model
from search_spaces.quantization.packing import SCALE_SUFFIX

MIB = 2**20


class Leaf(NamedTuple):
    """One tensor of the state of a layer: fixed slots [R, ...], or pages [pages, G, P, W]."""

    place: str
    name: str
    store: Tensor
    pages: Pages | None
    lead: tuple[int, ...] = ()
    """The axes that are G together."""


@dataclass(frozen=True)
class Batch:
    """The rows of one step: their slots [B], positions [B], and the tables [B, n] of their pages by limit."""

    slots: Tensor
    positions: Tensor
    tables: dict[int | None, Tensor]


@dataclass(frozen=True)
class Usage:
    """Bytes of states that rows hold, and those of them that hold something."""

    held: int
    used: int

    @property
    def waste(self) -> float:
        """The share that holds nothing."""
        return 1 - self.used / self.held if self.held else 0.0


class StatePool:
    """Slots for at most `rows` rows and pages for their texts, in `memory` bytes together."""

    def __init__(self, model: Model, *, rows: int, context: int, page: int, memory: int) -> None:
        """Raise `SettingError` where the memory cannot hold one row of `context` tokens."""
        self.model, self.page, self.context = model, page, context
        self.before = model.virtual_tokens
        shapes = list(_shapes(model, page))
        fixed = sum(part.empty.nbytes for part in shapes if not part.paged)
        self._token_bytes: dict[int | None, int] = {}
        for part in shapes:
            if part.paged:
                each = part.empty.nbytes // part.empty.shape[-2]
                self._token_bytes[part.limit] = self._token_bytes.get(part.limit, 0) + each
        self._fixed_bytes = fixed
        one = sum(self._page_bytes(limit) * self._full(limit) for limit in self._token_bytes)
        if memory < fixed + one:
            raise SettingError(
                f"{argument('memory', memory // MIB)} MiB cannot hold the state of one text of {context}"
                f" tokens, which is {shown_size(fixed + one)}: give more, or a shorter"
                f" {argument('context')}"
            )
        self.rows = min(rows, (memory - one) // fixed) if fixed else rows
        self.rows = max(1, self.rows)
        texts = (memory - self.rows * fixed) / one if one else 0.0
        self.pages = {
            limit: Pages(
                min(int(texts * self._full(limit)), self.rows * self._full(limit)), page, self.rows, limit
            )
            for limit in self._token_bytes
        }
        self.free = list(range(self.rows))[::-1]
        self.tokens = [0] * self.rows
        self.layers = self._allocated(shapes, len(model.decoder_layers))

    def take(self, tokens: int, others: Sequence[tuple[int, int]] = ()) -> int | None:
        """A slot with pages for so many tokens; None where there is no room.

        Each of the `others`, slots with the tokens of their whole texts, keeps one page in reserve, unless it
        has all that it will ever need: where the memory holds all rows in full, nobody waits for a page.
        """
        if not self.free or not self._has_room(self.free[-1], tokens, others):
            return None
        slot = self.free.pop()
        self.grow(slot, tokens)
        return slot

    def grow(self, slot: int, tokens: int) -> bool:
        """Give a slot the pages for so many tokens; False where there are not as many."""
        if not self._has_room(slot, tokens):
            return False
        for pages in self.pages.values():
            pages.grow(slot, self.before + tokens)
        self.tokens[slot] = max(self.tokens[slot], self.before + tokens)
        return True

    def release(self, slot: int) -> None:
        """Take a slot and its pages back."""
        for pages in self.pages.values():
            pages.release(slot)
        self.tokens[slot] = 0
        self.free.append(slot)

    def holds(self, tokens: int) -> bool:
        """Whether a row of so many tokens fits, if it is alone."""
        slots = self.before + tokens
        return tokens <= self.context and all(p.needed(slots) <= p.count for p in self.pages.values())

    def usage(self) -> Usage:
        """What rows hold, and use."""
        running = [slot for slot in range(self.rows) if self.tokens[slot]]
        held = used = self._fixed_bytes * len(running)
        for limit, pages in self.pages.items():
            held += self._page_bytes(limit) * (pages.count - len(pages.free))
            kept = (self.tokens[slot] if limit is None else min(self.tokens[slot], limit) for slot in running)
            used += self._token_bytes[limit] * sum(kept)
        return Usage(held, used)

    def put(self, slot: int, state: DecodeState) -> None:
        """Store the state of one row, which has been read outside the pool, in a slot that has its pages."""
        for leaves, layer in zip(self.layers, state.layers, strict=True):
            for leaf in leaves:
                part = layer[leaf.place][leaf.name]
                if leaf.pages is None:
                    if part.shape[1:] != leaf.store.shape[1:]:  # behind a router, where little has passed
                        part = F.pad(part, (0, 0, 0, leaf.store.shape[-2] - part.shape[-2]))
                    leaf.store[slot] = part[0]
                    continue
                table = leaf.pages.tables[slot]
                rows = part.reshape(-1, *part.shape[-2:])[:, : len(table) * self.page]
                rows = F.pad(rows, (0, 0, 0, len(table) * self.page - rows.shape[1]))
                leaf.store[table] = rows.unflatten(1, (len(table), self.page)).transpose(0, 1)

    def taken(self, slot: int, position: int) -> DecodeState:
        """A copy of the state of one row that has read so many tokens, as the model alone would hold it."""
        held = max((len(pages.tables[slot]) for pages in self.pages.values()), default=0) * self.page
        batch = self.batch([slot], [position]).batch
        capacity = max(held, in_steps(self.before + position + 1))
        layers = tuple(
            layer.grown(self.gathered(i, batch), capacity)
            for i, layer in enumerate(self.model.decoder_layers)
        )
        return DecodeState(layers, position, capacity - self.before)

    def batch(self, slots: Sequence[int], positions: Sequence[int]) -> PooledRows:
        """The state of rows that have read as many tokens as their positions say, for a step of the model."""
        device, tables = self.model.embedding.device, {}
        for limit, pages in self.pages.items():
            longest = max(len(pages.tables[slot]) for slot in slots)
            padded = [pages.tables[s] + [0] * (longest - len(pages.tables[s])) for s in slots]
            tables[limit] = torch.tensor(padded, device=device, dtype=torch.long).view(len(slots), longest)
        at = torch.tensor(positions, device=device)
        batch = Batch(torch.tensor(slots, device=device), at, tables)
        return PooledRows(Gathered(self, batch), at, max(positions) + 1, self, batch)  # type: ignore[arg-type]

    def gathered(self, index: int, batch: Batch) -> LayerState:
        """The states of layer `index`, of all rows of a batch."""
        state: LayerState = {place: {} for place in self.model.decoder_layers[index].sublayers}
        for leaf in self.layers[index]:
            state.setdefault(leaf.place, {})[leaf.name] = self._gathered(leaf, batch)
        return state

    def write(self, index: int, after: LayerState, batch: Batch) -> None:
        """Put back what a step has changed in layer `index`: fixed states, and of others one token."""
        counts = after.get("routing", {}).get("count")
        leaves = self.layers[index]
        if counts is None:
            positions = self.before + batch.positions
        else:  # behind a router only some tokens are written
            [kept] = [leaf.store for leaf in leaves if (leaf.place, leaf.name) == ("routing", "count")]
            positions = kept.index_select(0, batch.slots)
        each = torch.arange(len(batch.slots), device=batch.slots.device)
        for leaf in leaves:
            part = after[leaf.place][leaf.name]
            if leaf.pages is None:
                leaf.store.index_copy_(0, batch.slots, part)
                continue
            at = positions.remainder(part.shape[-2])
            written = part.reshape(len(part), -1, *part.shape[-2:])[each, :, at]
            page = batch.tables[leaf.pages.limit][each, at // self.page]
            leaf.store[page, :, at.remainder(self.page)] = written

    def _gathered(self, leaf: Leaf, batch: Batch) -> Tensor:
        if leaf.pages is None:
            return leaf.store.index_select(0, batch.slots)
        table, rows = batch.tables[leaf.pages.limit], leaf.store.shape[1]
        index = table[:, None] * rows + torch.arange(rows, device=table.device)[:, None]
        parts = leaf.store.flatten(0, 1).index_select(0, index.flatten())
        state = parts.view(len(table), *leaf.lead, -1, parts.shape[-1])
        return state if leaf.pages.limit is None else state[..., : leaf.pages.limit, :]

    def _has_room(self, slot: int, tokens: int, others: Sequence[tuple[int, int]] = ()) -> bool:
        return all(
            pages.missing(slot, self.before + tokens)
            + sum(pages.missing(other, self.before + whole) > 0 for other, whole in others)
            <= len(pages.free)
            for pages in self.pages.values()
        )

    def _page_bytes(self, limit: int | None) -> int:
        return self._token_bytes[limit] * self.page

    def _full(self, limit: int | None) -> int:
        """Pages of a row of `context` tokens, with the virtual ones before them."""
        return Pages(0, self.page, 0, limit).needed(self.before + self.context)

    def _allocated(self, shapes: Sequence[Part], layers: int) -> list[list[Leaf]]:
        made: list[list[Leaf]] = [[] for _ in range(layers)]
        for part in shapes:
            tail = part.empty.shape[1:]
            if not part.paged:
                store = part.empty.new_zeros((self.rows, *tail))
                made[part.layer].append(Leaf(part.place, part.name, store, None))
                continue
            pages, lead = self.pages[part.limit], tuple(tail[:-2])
            store = part.empty.new_zeros((pages.count, prod(lead), self.page, tail[-1]))
            made[part.layer].append(Leaf(part.place, part.name, store, pages, lead))
        return made


class Gathered(Sequence[LayerState]):
    """The layers of a batch, each gathered when it is read."""

    def __init__(self, pool: StatePool, batch: Batch) -> None:
        self._pool, self._batch = pool, batch

    def __len__(self) -> int:
        return len(self._pool.layers)

    def __getitem__(self, index: Any) -> Any:
        if index >= len(self):
            raise IndexError(index)
        return self._pool.gathered(index, self._batch)


@dataclass(frozen=True)
class PooledRows(DecodeState):
    """A state whose layers lie in a pool, where a step puts them back."""

    pool: StatePool = field(repr=False)
    batch: Batch = field(repr=False)

    def keep(self, index: int, after: LayerState) -> LayerState:
        """Put them back."""
        self.pool.write(index, after, self.batch)
        return {}


class Part(NamedTuple):
    """A tensor of the state of one row, as the model makes it, and whether it grows with the text."""

    layer: int
    place: str
    name: str
    empty: Tensor
    paged: bool
    limit: int | None


def _shapes(model: Model, page: int) -> Iterator[Part]:
    """All tensors of a row's state; a ring of no more than a page is as good as fixed."""
    for i, layer in enumerate(model.decoder_layers):
        for place, parts in layer.init_state(1, page).items():
            sublayer = layer.sublayers.get(place)
            shapes = {} if sublayer is None else sublayer.mixer.state_shapes
            for name, empty in parts.items():
                shape = shapes.get(name.removesuffix(SCALE_SUFFIX), StateShape(()))
                paged, limit = shape.per_token, shape.limit
                if paged and limit is not None and limit <= page:  # at its limit from the beginning
                    paged, limit = False, None
                    empty = empty[..., :1, :].expand(*empty.shape[:-2], shape.limit or 0, -1)
                yield Part(i, place, name, empty, paged, limit)
