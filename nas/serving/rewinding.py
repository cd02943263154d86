"""The decode state of one text that can be set back to an earlier token.

Caches that grow with the text are cut: what lies beyond a position is masked, and written over later.
Recurrent states and the rings of windows cannot be cut, so a snapshot of them is taken at a mark; a text that
parts from what was read goes back to the mark, and what is right since then is read again in the next pass.

Shapes: T tokens, V vocab.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from search_spaces.network.decode_state import DecodeState, LayerState
from search_spaces.network.generation import PROMPT_LOGITS
from search_spaces.network.model import Model
from search_spaces.quantization.packing import SCALE_SUFFIX


class Rewinding:
    """What a network has read of a text, and how it goes back."""

    def __init__(self, model: Model, state: DecodeState) -> None:
        """`state` is that of one row, at a position that is a number; it is marked there."""
        self.model, self.state = model, state
        self._cut = [_cuttable(model, index, layer) for index, layer in enumerate(state.layers)]
        self._take()

    @property
    def position(self) -> int:
        """How many tokens have been read."""
        return int(self.state.position)

    def mark(self) -> None:
        """Take a snapshot here: what has been read so far is right."""
        if self._read:
            self._take()

    def _take(self) -> None:
        self._marked, self._read = self.position, list[int]()
        self._snapshot: list[LayerState] = [
            {
                place: {name: part.clone() for name, part in parts.items() if (place, name) not in cut}
                for place, parts in layer.items()
            }
            for layer, cut in zip(self.state.layers, self._cut, strict=True)
        ]

    def align(self, text: Sequence[int]) -> None:
        """Go back to a beginning of the text, which has not changed before the mark."""
        since = text[self._marked :]
        same = next((i for i, (a, b) in enumerate(zip(self._read, since, strict=False)) if a != b), None)
        same = min(len(self._read), len(since)) if same is None else same
        if same == len(self._read):
            return
        recurrent = any(parts for layer in self._snapshot for parts in layer.values())
        position = self._marked if recurrent else self._marked + same
        layers, room = [], self.state.capacity + self.model.virtual_tokens
        for module, layer, saved in zip(
            self.model.decoder_layers, self.state.layers, self._snapshot, strict=True
        ):
            back: LayerState = {
                place: parts | {name: part.clone() for name, part in saved.get(place, {}).items()}
                for place, parts in layer.items()
            }
            layers.append(module.grown(back, room))  # a ring may have grown since the mark
        self.state = DecodeState(tuple(layers), position, self.state.capacity)
        self._read = [] if recurrent else self._read[:same]

    def read(self, tokens: Sequence[int]) -> Tensor:
        """Read these tokens next: the logits after each of them [T, V]."""
        logits, self.state = self.model.prefill(self._tensor([list(tokens)]), self.state)
        self._read += tokens
        return logits[0]

    def read_last(self, tokens: Sequence[int]) -> Tensor:
        """Read these tokens next, however many: the logits after the last of them [V]."""
        pieces = self._tensor([list(tokens)]).split(max(1, PROMPT_LOGITS // self.model.spec.vocab), dim=1)
        for piece in pieces:
            logits, self.state = self.model.prefill(piece, self.state, last=True)
        self._read += tokens
        return logits[0, -1]

    def step(self, token: int) -> Tensor:
        """Read one token next: the logits after it [V]."""
        logits, self.state = self.model.step(self._tensor([token]), self.state)
        self._read.append(token)
        return logits[0]

    def _tensor(self, tokens: Sequence[int] | Sequence[Sequence[int]]) -> Tensor:
        return torch.tensor(tokens, device=self.model.embedding.device)


def _cuttable(model: Model, index: int, state: LayerState) -> frozenset[tuple[str, str]]:
    """Place and name of the parts of a layer's state that hold a row of each token for good."""
    sublayers = model.decoder_layers[index].sublayers
    found = set()
    for place, parts in state.items():
        shapes = sublayers[place].mixer.state_shapes if place in sublayers else {}
        for name in parts:
            shape = shapes.get(name.removesuffix(SCALE_SUFFIX))
            if shape is not None and shape.per_token and shape.limit is None:
                found.add((place, name))
    return frozenset(found)
