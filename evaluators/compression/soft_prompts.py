"""Prompt and prefix tuning: a network learns what it reads before any text, and nothing else of it changes.

Prompt tuning (Lester et al. 2021, arXiv:2104.08691) learns vectors before the first layer; prefix tuning (Li
& Liang 2021, arXiv:2101.00190) learns the decode state that every mixer begins with. Both begin with what the
network makes of the first tokens of the text that it is to learn, as both papers found best (section 3.2;
section 7.4). The states are learned directly, without the papers' network that makes them.

Shapes: W windows, T tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from evaluators.compression.adapters import Adapter
from evaluators.compression.merged import Merged
from search_spaces.network.decoder import Decoder
from search_spaces.network.model import Model
from search_spaces.network.soft_prompt import NAME, VECTORS, SoftPrompt
from search_spaces.quantization.rounding import round_all


class PromptTraining(Merged):
    """The training of a model's soft prompt; all else stays as it is."""

    usual_rate = 0.3
    """That of vectors: better than 0.09 for attention and Mamba-2 of width 32; also Lester et al.'s."""

    def starts(self) -> dict[str, nn.Parameter]:
        """The prompt as the model has it."""
        return {n: nn.Parameter(w.clone()) for n, w in self._weights.items() if n.startswith(f"{NAME}.")}

    @property
    def how(self) -> Mapping[str, Any]:
        """That only the prompt is learned."""
        return {"learned": NAME}

    def learned(self) -> Adapter:
        """The prompt as it is so far, apart from the network."""
        return Adapter({}, self.origin, {n: w.detach().clone() for n, w in self.parameters.items()})

    def merged(self) -> dict[str, Tensor]:
        """See `Merged.merged`."""
        return {**self._rounded, **self.parameters}

    @cached_property
    @torch.no_grad()
    def _rounded(self) -> Mapping[str, Tensor]:
        """The other weights at their bits, which do not change."""
        return round_all(self._weights, self._bits)


class PrefixTraining(PromptTraining):
    """The same where the prompt is the states of all mixers."""

    usual_rate = 9e-2
    """With 0.3 attention of width 32 learns a little more, and Mamba-2 forgets."""


def prompted_spec(spec: Decoder, prompt: SoftPrompt) -> Decoder:
    """The architecture with a soft prompt."""
    return replace(spec, soft_prompt=prompt)


@torch.no_grad()
def prompted(model: Model, prompt: SoftPrompt, text: Tensor) -> Model:
    """The model with a soft prompt that says what the first tokens of a text [W, T] say.

    A text that is shorter than the prompt is repeated.
    """
    with torch.device("meta"):
        larger = Model(prompted_spec(model.spec, prompt))
    larger.to_empty(device=model.embedding.device).eval()
    flat = text.reshape(-1).to(model.embedding.device)
    tokens = flat.repeat(-(-prompt.tokens // flat.numel()))[None, : prompt.tokens]
    held = dict(model.named_parameters()) | _read(model, prompt, tokens)
    for name, weight in larger.named_parameters():
        weight.copy_(held[name])
    return larger


def _read(model: Model, prompt: SoftPrompt, tokens: Tensor) -> dict[str, Tensor]:
    """The parameters of the prompt that is these tokens [1, P]."""
    if prompt.form == VECTORS:
        return {f"{NAME}.{VECTORS}": model.embed(tokens)[0]}
    _, state = model.prefill(tokens, capacity=prompt.tokens, last=True)
    return {
        f"{NAME}.{index}.{place}.{name}": part[0]
        for index, layer in enumerate(state.layers)
        for place, parts in layer.items()
        for name, part in parts.items()
    }
