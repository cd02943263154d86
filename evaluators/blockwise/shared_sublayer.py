"""One sublayer by itself, computed with the shared weights of a supernet.

    x + mixer(norm(x))

A `BorrowedSublayer` reads the slices of a supernet's parameters that a subnet would use. Alignment trains
them one by one, replacement scores them one by one.

Shapes: B batch, T tokens, D d_model.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call

from foundation.errors import IllegalArchitecture
from search_spaces.blocks.base import Mixed
from search_spaces.network.options.reads_embedding import EmbeddingReader
from search_spaces.network.residual import Embedded, Residual
from search_spaces.network.sublayers import Sublayer
from search_spaces.quantization.bits import WeightFormat, takes_few_bits
from search_spaces.supernet import Supernet


class BorrowedSublayer:
    """A sublayer read from a supernet's weights by slices; it holds none itself.

    Raises:
        IllegalArchitecture: the supernet holds no weights for it, or not large enough ones.
    """

    def __init__(self, supernet: Supernet, sublayer: Sublayer) -> None:
        if sublayer.block is None:
            raise IllegalArchitecture(f"{sublayer.path}: nothing stands there, so nothing can be read")
        self.supernet, self.sublayer = supernet, sublayer
        with torch.device("meta"):
            reader = EmbeddingReader(sublayer.d_model, sublayer.norm) if sublayer.reads_embedding else None
            residual = Residual(sublayer.block, sublayer.d_model, sublayer.bits, sublayer.norm)
            self.module = _InPieces(residual, reader)
        self.bindings: dict[str, tuple[str, tuple[int, ...], WeightFormat | None]] = {}
        for name, parameter in self.module.named_parameters():
            key, shape = self._key(name), tuple(parameter.shape)
            shared = supernet.weights.get(key)
            if shared is None or any(map(int.__lt__, shared.shape, shape)):
                has = "none" if shared is None else f"only {tuple(shared.shape)}"
                raise IllegalArchitecture(f"{key} needs {shape}, but the supernet has {has}")
            stored = WeightFormat() if name.startswith("reader.") else sublayer.bits.stored
            own = name.partition(".mixer.")[2]
            rounded = takes_few_bits(sublayer.block if own else None, own, shape)
            self.bindings[name] = key, shape, stored if rounded else None

    def _key(self, name: str) -> str:
        """Where the supernet keeps a parameter."""
        part, _, own = name.partition(".")
        site = f"{self.sublayer.site}.reads_embedding" if part == "reader" else self.sublayer.key
        return f"{site}.{own}"

    def weights(self) -> dict[str, Tensor]:
        """The slices at the bits of the sublayer; gradients pass straight through into the shared weights."""
        return {name: self.supernet.slice_at(*binding) for name, binding in self.bindings.items()}

    def __call__(
        self,
        x: Tensor,
        embedding: Tensor | None = None,
        weights: Mapping[str, Tensor] | None = None,
        *,
        segment: int | None = None,
    ) -> Mixed:
        """`x + mixer(norm(x))` of x [B, T, D], and the embedding [B, T, D] of its tokens if it reads that.

        With a `segment`, in pieces of that many tokens that hand over their state.
        """
        weights = self.weights() if weights is None else weights
        given = (x, embedding, segment)
        mixed: Mixed = functional_call(self.module, dict(weights), given, tie_weights=False)
        return mixed


class _InPieces(nn.Module):
    """A sublayer that can be read in pieces, as `Model.forward` reads a network."""

    def __init__(self, residual: Residual, reader: EmbeddingReader | None) -> None:
        super().__init__()
        self.residual, self.reader = residual, reader

    def forward(self, x: Tensor, embedding: Tensor | None, segment: int | None) -> Mixed:
        """x and the embedding [B, T, D]."""
        if segment is None:
            mixed: Mixed = self.residual(x, None, 0, self._embedded(embedding, 0, x.shape[1]))
            return mixed
        state, position, pieces = self.residual.init_state(x.shape[0], x.shape[1]), 0, []
        for piece in x.split(segment, dim=1):
            embedded = self._embedded(embedding, position, piece.shape[1])
            mixed = self.residual(piece, state, position, embedded)
            state, position = mixed.state or {}, position + piece.shape[1]
            pieces.append(mixed.y)
        return Mixed(torch.cat(pieces, dim=1))

    def _embedded(self, embedding: Tensor | None, position: int, count: int) -> Embedded | None:
        """The embeddings of `count` tokens, and how they are read."""
        if self.reader is None:
            return None
        assert embedding is not None, "this sublayer reads the embedding of its tokens"
        return Embedded(self.reader, embedding[:, position : position + count])
