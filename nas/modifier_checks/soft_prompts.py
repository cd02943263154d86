"""Prompt and prefix tuning on a network that transformers runs, beside peft."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import torch
from torch import Tensor

from evaluators.compression.soft_prompts import prompted
from nas.modifier_checks.adaptation import llama
from nas.modifier_checks.base import Measured, SystemCheck, checks, difference, random
from search_spaces.checkpoints.against_transformers import quiet
from search_spaces.checkpoints.writing import write_folder
from search_spaces.network.model import Model
from search_spaces.network.soft_prompt import STATES, VECTORS, SoftPrompt

TOKENS = 5


class _PromptAgainstPeft(SystemCheck):
    reference, tolerance = "peft on our export to transformers", 1e-5
    needs = ("peft", "transformers")
    form: ClassVar[str]

    def measure(self) -> Measured:
        """See `SystemCheck.measure`."""
        base, prompt = llama(), SoftPrompt(tokens=TOKENS, form=self.form)
        dice = torch.Generator().manual_seed(0)
        tokens = torch.randint(base.spec.vocab, (2, 20), generator=dice)
        ours = prompted(base, prompt, tokens)
        learned = {n: w for n, w in ours.named_parameters() if n.startswith("soft_prompt.")}
        with torch.no_grad():
            for index, weight in enumerate(learned.values()):
                weight.copy_(random(*weight.shape, seed=index))
        with TemporaryDirectory() as folder, quiet():
            write_folder(base, Path(folder), family="llama")
            theirs = self.wrapped(folder)
            (weight,) = (w for w in theirs.parameters() if w.requires_grad)
            with torch.no_grad():
                weight.copy_(self.as_theirs(ours, learned))
                said = theirs(tokens).logits[:, -tokens.shape[1] :]
        with torch.no_grad():
            law = prompt.params(base.spec.d_model, base.spec.layers)
            return Measured(difference(ours(tokens), said), weight.numel(), law)

    def wrapped(self, folder: str) -> Any:
        """Their model with a prompt of peft."""
        from peft import PrefixTuningConfig, PromptTuningConfig, get_peft_model
        from transformers import AutoModelForCausalLM

        kind = PromptTuningConfig if self.form == VECTORS else PrefixTuningConfig
        config = kind(task_type="CAUSAL_LM", num_virtual_tokens=TOKENS)
        return get_peft_model(AutoModelForCausalLM.from_pretrained(folder), config).eval()

    def as_theirs(self, model: Model, learned: Mapping[str, Tensor]) -> Tensor:
        """What was learned as the one matrix that peft has."""
        raise NotImplementedError


@checks.add
class PromptTuning(_PromptAgainstPeft):
    """Logits behind the same vectors."""

    name, form = "prompt tuning", VECTORS

    def as_theirs(self, model: Model, learned: Mapping[str, Tensor]) -> Tensor:
        """The vectors [P, D]."""
        (vectors,) = learned.values()
        return vectors / model.shell.scale


@checks.add
class PrefixTuning(_PromptAgainstPeft):
    """Logits behind the same keys and values of virtual tokens."""

    name, form = "prefix tuning", STATES

    def as_theirs(self, model: Model, learned: Mapping[str, Tensor]) -> Tensor:
        """Keys and values [G, P, K] of each layer, one after the other: [P, L * 2 * G * K]."""
        return torch.stack(list(learned.values())).permute(2, 0, 1, 3).flatten(1)
