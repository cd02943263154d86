"""A network of this project as a class of transformers: loss, `generate`, and a cache of its decode state.

    model = AutoModelForCausalLM.from_pretrained(FOLDER, trust_remote_code=True)
    model.generate(tokens, max_new_tokens=32)

Exports of networks that no class of transformers computes hold this file, with the source of what it imports
(`search_spaces.checkpoints.source_copy`). The configuration holds the architecture as plain values.

Shapes: B batch, T tokens, V vocab.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import GenerationMixin, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from search_spaces.language.serialization import from_plain
from search_spaces.network.decode_state import DecodeState
from search_spaces.network.model import Model


class NasConfig(PreTrainedConfig):
    """The architecture, and what transformers asks of every configuration."""

    model_type = "nas"

    def __init__(self, network: dict[str, Any] | None = None, **others: Any) -> None:
        self.network = network
        super().__init__(**others)


@dataclass
class StateCache:
    """What a network remembers of the tokens it has read; `generate` hands it from step to step."""

    state: DecodeState

    def get_seq_length(self, layer: int = 0) -> int:
        """How many tokens were read."""
        return int(self.state.position)

    def reorder_cache(self, beams: Tensor) -> None:
        """Go on with these rows of the batch."""
        layers = tuple(
            {place: {name: each[beams] for name, each in stored.items()} for place, stored in layer.items()}
            for layer in self.state.layers
        )
        self.state = DecodeState(layers, self.state.position, self.state.capacity)


class NasForCausalLM(PreTrainedModel, GenerationMixin):
    """A language model over tokens [B, T]; sequences of a batch are of one length, without padding."""

    config_class = NasConfig
    base_model_prefix = "network"
    _is_stateful = True  # a recurrent state cannot be taken back to an earlier token

    def __init__(self, config: NasConfig) -> None:
        super().__init__(config)
        self.network = Model(from_plain(config.network))
        self.post_init()

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        return False  # the state is not keys and values of every layer

    def get_input_embeddings(self) -> Any:
        """None: the embedding is a parameter, and no module that could be exchanged."""
        return None

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        past_key_values: StateCache | None = None,
        *,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int = 0,
        **others: Any,
    ) -> CausalLMOutputWithPast:
        """Logits [B, T, V] after the tokens of a cache, and the loss of `labels` [B, T] (-100: not counted).

        Of `logits_to_keep` tokens at the end, where that is not 0.
        """
        if attention_mask is not None and not bool(attention_mask.all()):
            raise ValueError("padding cannot be masked: give sequences of one length, or one at a time")
        if past_key_values is None and (use_cache is False or labels is not None or self.training):
            logits = self.network(input_ids)
        else:
            logits, past_key_values = self._read(input_ids, past_key_values, last=logits_to_keep == 1)
        loss: Any = None
        if labels is not None:
            loss = F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten())
        kept = logits[:, -logits_to_keep:] if logits_to_keep else logits
        cache: Any = past_key_values  # of our kind, and none of those that transformers has
        return CausalLMOutputWithPast(loss=loss, logits=kept, past_key_values=cache)

    def _read(self, tokens: Tensor, cache: StateCache | None, *, last: bool) -> tuple[Tensor, StateCache]:
        """Logits of tokens [B, T], and the cache that holds them; the one that is given is the same."""
        if cache is None:
            logits, state = self.network.prefill(tokens, last=last)
            return logits, StateCache(state)
        if tokens.shape[1] == 1:
            logits, cache.state = self.network.step(tokens[:, 0], cache.state)
            return logits[:, None], cache
        logits, cache.state = self.network.prefill(tokens, cache.state, last=last)
        return logits, cache

    def _init_weights(self, module: torch.nn.Module) -> None:
        """Parameters that a checkpoint lacks are made by `build`, not here."""
