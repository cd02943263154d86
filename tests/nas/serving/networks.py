"""Networks for tests of serving: one of each kind of state, and all of them in one hybrid."""

from __future__ import annotations

from typing import Any

import torch

from nas.serving.engine import Engine
from nas.serving.requests import Piece, Request, Sampling
from nas.serving.settings import EngineSettings
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.gated_delta_net import GatedDeltaNet
from search_spaces.blocks.mamba2 import Mamba2
from search_spaces.blocks.moe import MoE
from search_spaces.blocks.rglru import RGLRU
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.model import Model, build
from search_spaces.network.options.early_exit import EarlyExit
from search_spaces.network.options.mixture_of_depths import MixtureOfDepths
from search_spaces.quantization.bits import Bits

VOCAB = 256
FULL = Attention(num_heads=2, num_kv_heads=1, head_dim=8)
NEAR = Attention(num_heads=2, num_kv_heads=1, head_dim=8, window=11)
CLOSE = Attention(num_heads=2, num_kv_heads=2, head_dim=8, window=3)
MLP = SwiGLU(expansion=2)
NETWORKS: dict[str, tuple[Layer, ...]] = {
    "caches": (Layer(sequence_mixer=FULL, channel_mixer=MLP),) * 2,
    "recurrent": (
        Layer(sequence_mixer=Mamba2(num_heads=2, head_dim=8, state_dim=4), channel_mixer=MLP),
        Layer(sequence_mixer=GatedDeltaNet(num_heads=2, head_dim=8), channel_mixer=None),
    ),
    "hybrid": (
        Layer(sequence_mixer=FULL, channel_mixer=MoE(num_experts=4, top_k=2)),
        Layer(sequence_mixer=NEAR, channel_mixer=MLP),
        Layer(sequence_mixer=CLOSE, channel_mixer=MLP),
        Layer(sequence_mixer=RGLRU(num_heads=2, head_dim=8), channel_mixer=MLP),
    ),
    "rounded": (  # what is read anew may be rounded otherwise: not for tests of rows that give way
        Layer(sequence_mixer=NEAR, channel_mixer=MLP, bits=Bits(state=8)),
        Layer(sequence_mixer=FULL, channel_mixer=MLP, bits=Bits(state=8)),
    ),
    "options": (
        Layer(sequence_mixer=FULL, channel_mixer=MLP, exit=EarlyExit(threshold=0.98)),
        Layer(sequence_mixer=NEAR, channel_mixer=MLP, routing=MixtureOfDepths(capacity=0.5)),
        Layer(sequence_mixer=FULL, channel_mixer=MLP),
    ),
}


def network(name: str, seed: int = 0) -> Model:
    """A small network in float64, so that sums in another order choose no other token."""
    spec = Decoder(vocab=VOCAB, d_model=16, layers=NETWORKS[name])
    model = build(spec, seed=seed)
    with torch.no_grad():
        dice = torch.Generator().manual_seed(seed)
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=dice), alpha=0.3)
    return model.double().eval()


def prompt(length: int, seed: int = 0) -> list[int]:
    return torch.randint(VOCAB, (length,), generator=torch.Generator().manual_seed(seed)).tolist()


def greedy(model: Model, tokens: list[int], count: int) -> list[int]:
    """What a network alone answers."""
    return model.generate(torch.tensor([tokens]), count)[0].tolist()


class Answers:
    """Requests to an engine, and what came back of each."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.pieces: list[list[Piece]] = []

    def ask(self, tokens: list[int], **sampling: Any) -> Request:
        got: list[Piece] = []
        request = Request(tokens, Sampling(**{"temperature": 0.0, **sampling}), got.append)
        self.engine.submit(request)
        self.pieces.append(got)
        return request

    def run(self) -> None:
        for _ in range(10_000):
            if not self.engine.iterate():
                return
        raise AssertionError("the engine does not come to an end")

    def tokens(self, index: int) -> list[int]:
        return [chosen.token for piece in self.pieces[index] for chosen in piece.chosen]

    def text(self, index: int) -> str:
        return "".join(piece.text for piece in self.pieces[index])

    def finish(self, index: int) -> str | None:
        assert all(piece.finish is None for piece in self.pieces[index][:-1])
        return self.pieces[index][-1].finish


def engine(name: str = "hybrid", **settings: Any) -> Engine:
    return Engine(network(name), EngineSettings(**{"context": 64, "rows": 4, **settings}))
