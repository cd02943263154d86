"""Models that others wrote, taken over: a folder of transformers or a file in GGUF becomes a model of ours.

nas.import_model("SmolLM2-135M", "parent")      # nas.load("parent") reads it
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evaluators.tokens.speech import tokenizer_of
from foundation.errors import EvaluationFailed
from foundation.extras import missing_extra
from foundation.text import listed
from nas.progress import Progress
from search_spaces.checkpoints.against_transformers import Difference, compared, require_transformers
from search_spaces.checkpoints.reading import filled, open_checkpoint, plan_of
from search_spaces.checkpoints.writing import SPECIAL
from search_spaces.network.decoder import Decoder
from search_spaces.network.model_files import check_free, save_model

TOLERANCE = 1e-3
"""Differences, as a share of the largest logit, up to which two models in float32 are the same."""


@dataclass(frozen=True)
class Imported:
    """What a checkpoint became: its family, our architecture, and what is to be told of it.

    `difference` is that from transformers, where it was asked for.
    """

    family: str
    spec: Decoder
    parameters: int
    notes: tuple[str, ...] = ()
    difference: Difference | None = None
    about: dict[str, Any] = field(default_factory=dict)


def import_model(
    source: str | Path,
    output: str | Path | None = None,
    *,
    check: bool = False,
    force: bool = False,
    progress: Progress | None = None,
) -> Imported:
    """Read a checkpoint and write it into the folder `output` as a model of ours (None: write nothing).

    `source` is a folder of transformers (config.json and safetensors) or a file in GGUF. With `check`, its
    logits are compared with those of transformers. With `force`, a model that was exported into the folder
    before is replaced.

    Raises:
        SettingError: the architecture is not known here or has what we lack; a pickle; no memory for it; the
            folder holds something else.
        FileError: a file is missing, damaged, or cannot be written.
        EvaluationFailed: transformers computes something else.
    """
    if output is not None:
        check_free(output, force=force)
    if check:
        require_transformers(source)
    shown = progress or Progress()
    with open_checkpoint(source) as checkpoint:
        plan = plan_of(checkpoint)
        notes, tokenizer = [], checkpoint.tokenizer
        if tokenizer is None:
            notes.append(f"without a tokenizer: {checkpoint.without_tokenizer}")
        elif missing_extra("hf", "tokenizers"):
            notes.append("its tokenizer was not looked at: the package tokenizers is not installed")
        else:
            tokenizer_of(tokenizer, f"the tokenizer of {source}", plan.spec.vocab)
        values = sum(parameter.numel() for parameter in plan.model.parameters())
        with shown.bar(f"reading {source}", values) as bar:
            model = filled(plan, checkpoint, lambda done, total: bar.update(done))
        if plan.unread:
            notes.append(f"not known here, and left aside: {listed(plan.unread)} of its configuration")
    about: dict[str, Any] = {
        "imported_from": Path(source).name,
        "family": plan.family.name,
        "weights": "imported",
        "tokens": {name: plan.config.get(name, None) for name in SPECIAL},
    }
    difference = compared(model, source) if check else None
    if difference is not None and difference.relative > TOLERANCE:
        raise EvaluationFailed(
            f"{source} is computed differently by transformers: logits differ by {difference.prefill:.2g} in"
            f" prefill and {difference.decode:.2g} in decode, of up to {difference.largest:.2g}"
        )
    if output is not None:
        save_model(model, output, about, force=force, tokenizer=tokenizer, exact=True)
    return Imported(plan.family.name, plan.spec, values, tuple(notes), difference, about)
