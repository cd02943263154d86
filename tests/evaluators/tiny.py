"""A block, an architecture and a corpus small enough that a training step takes a few milliseconds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from evaluators.corpus import load_corpus
from evaluators.tasks.language import LanguageModelling
from search_spaces.blocks.base import Block, Cost, Mixed, Mixer, State, StateShape
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.quantization.bits import Bits
from search_spaces.scenario import Scenario

WORDS = ("the", "cat", "sat", "on", "a", "mat", "and", "dog", "ate", "hat;")


@dataclass(frozen=True, kw_only=True)
class Fade(Block):
    """y = W m, with a memory m that halves at each token."""

    mixes: ClassVar = "sequence"
    penalty: float | None = None

    def build(self, d_model: int) -> Mixer:
        return FadeMixer(self.penalty, d_model, self.state(d_model))

    def cost(self, d_model: int, scenario: Scenario) -> Cost:
        return Cost(params=d_model**2)

    def state(self, d_model: int) -> dict[str, StateShape]:
        return {"memory": StateShape((d_model,))}


class FadeMixer(Mixer):
    def __init__(self, penalty: float | None, d_model: int, state: dict[str, StateShape]) -> None:
        super().__init__(state)
        self.penalty = penalty
        self.weight = nn.Parameter(torch.empty(d_model, d_model))

    def forward(self, x: Tensor, state: State | None = None, position: int = 0) -> Mixed:
        memory = state["memory"] if state else torch.zeros_like(x[:, 0])
        kept = []
        for token in x.unbind(1):
            memory = 0.5 * memory + token
            kept.append(memory)
        loss = None if self.penalty is None else self.penalty * self.weight.square().mean()
        y = torch.stack(kept, 1) @ self.weight.T
        return Mixed(y, {"memory": memory} if state else None, loss)

    def reset_parameters(self, dice: torch.Generator) -> None:
        nn.init.normal_(self.weight, std=self.weight.shape[0] ** -0.5, generator=dice)


def decoder(*, weight: int = 16, state: int = 16, penalty: float | None = None, vocab: int = 256) -> Decoder:
    layer = Layer(sequence_mixer=Fade(penalty=penalty), bits=Bits(weight=weight, state=state))
    return Decoder(vocab=vocab, d_model=24, layers=(layer, layer))


def task(folder: Path, *, length: int = 16, windows: int = 8) -> LanguageModelling:
    text = folder / "text.txt"
    dice = torch.Generator().manual_seed(0)
    chosen = torch.randint(len(WORDS), (6000,), generator=dice).tolist()
    text.write_text(" ".join(WORDS[i] for i in chosen))
    corpus = load_corpus(text, cache=folder / "cache")
    return LanguageModelling(corpus.folder, length, windows)
