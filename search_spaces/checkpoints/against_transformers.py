"""A model of ours against the same checkpoint in transformers: the largest difference of logits.

    difference = compared(model, path)
    difference.prefill, difference.decode, difference.largest

Some random tokens are read at once, and then one after the other from a cache, by both.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from foundation.errors import SettingError
from foundation.extras import require_extra
from foundation.text import one_line
from search_spaces.network.model import Model

PROMPT, STEPS, ROWS = 24, 32, 2

MIXES_ROWS = ("falcon_h1",)
"""Whose decoding adds up all rows of a batch where there are norms (transformers 5.17): they get one row."""


@dataclass(frozen=True)
class Difference:
    """The largest absolute difference of logits where a prompt is read, and in the steps after it.

    `largest` is the largest absolute logit, which says what a difference means.
    """

    prefill: float
    decode: float
    largest: float

    @property
    def relative(self) -> float:
        """The larger difference as a share of the largest logit."""
        return max(self.prefill, self.decode) / self.largest if self.largest else 0.0


def require_transformers(path: str | Path) -> None:
    """Make sure that transformers can read a checkpoint.

    Raises:
        SettingError: a package is missing.
    """
    packages = ("transformers",) if Path(path).is_dir() else ("transformers", "accelerate", "gguf")
    require_extra(f"comparing {path} with transformers", "hf", *packages)


def compared(model: Model, path: str | Path, *, seed: int = 0, own_class: bool = False) -> Difference:
    """How far a model is from what transformers computes with the checkpoint in `path`, both in float32.

    With `own_class`, which is for folders that this process wrote, the Python in it is run.

    Raises:
        SettingError: transformers is missing, or cannot read the checkpoint.
    """
    require_transformers(path)
    with quiet():
        theirs = _loaded(Path(path), own_class)
    tokens = _tokens(model, seed)
    return difference_of(_outputs(model, tokens), _their_outputs(theirs, tokens))


def difference_between(model: Model, other: Model, *, seed: int = 0) -> Difference:
    """How far two models of ours are apart on some random tokens."""
    tokens = _tokens(model, seed)
    return difference_of(_outputs(model, tokens), _outputs(other, tokens))


def difference_of(ours: tuple[Tensor, Tensor], theirs: tuple[Tensor, Tensor]) -> Difference:
    """The difference between two pairs of logits: of a prompt [B, T, V], and of the steps after it."""
    prefill, decode = (float((mine - yours).abs().max()) for mine, yours in zip(ours, theirs, strict=True))
    return Difference(prefill, decode, max(float(logits.abs().max()) for logits in theirs))


def _tokens(model: Model, seed: int) -> Tensor:
    dice = torch.Generator().manual_seed(seed)
    return torch.randint(model.spec.vocab, (ROWS, PROMPT + STEPS), generator=dice)


@torch.no_grad()
def _outputs(model: Model, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Logits of all tokens at once, and of those behind the prompt, one after the other."""
    whole = model(tokens)
    _, state = model.prefill(tokens[:, :PROMPT])
    steps = []
    for token in tokens[:, PROMPT:].unbind(1):
        logits, state = model.step(token, state)
        steps.append(logits)
    return whole, torch.stack(steps, 1)


@torch.no_grad()
def _their_outputs(model: Any, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """The same of theirs."""
    rows = tokens.split(1) if model.config.model_type in MIXES_ROWS else [tokens]
    wholes, steps = zip(*(_read_by(model, row) for row in rows), strict=True)
    return torch.cat(wholes), torch.cat(steps)


def _read_by(model: Any, tokens: Tensor) -> tuple[Tensor, Tensor]:
    whole = model(tokens, use_cache=False).logits
    given = _own_cache(model)
    read = model(tokens[:, :PROMPT], use_cache=True, **given)
    cache = "cache_params" if getattr(read, "cache_params", None) is not None else "past_key_values"
    steps = []
    for token in tokens[:, PROMPT:].unbind(1):
        read = model(token[:, None], use_cache=True, **(given or {cache: getattr(read, cache)}))
        steps.append(read.logits[:, -1])
    return whole, torch.stack(steps, 1)


def _own_cache(model: Any) -> dict[str, Any]:
    """The cache that a class wants to be given, since it gives none back; empty for all others."""
    import transformers

    if model.config.model_type != "recurrent_gemma":
        return {}
    return {"past_key_values": transformers.DynamicCache(config=model.config)}


def _loaded(path: Path, own_class: bool) -> Any:
    """The checkpoint in transformers: no code of its own is run unless it is ours, and no pickle read."""
    import transformers

    how: dict[str, Any] = {"dtype": torch.float32, "local_files_only": True, "trust_remote_code": own_class}
    if path.is_dir():
        how |= {"use_safetensors": True} | ({} if own_class else {"attn_implementation": "eager"})
    else:
        how |= {"gguf_file": path.name}
        path = path.absolute().parent
    try:
        return transformers.AutoModelForCausalLM.from_pretrained(path, **how).eval()
    except (ValueError, OSError, KeyError, TypeError, ImportError, RuntimeError) as error:
        raise SettingError(f"transformers cannot read {path}: {one_line(str(error))[:300]}") from None


@contextmanager
def quiet() -> Iterator[None]:
    """Without the bars, warnings and lines that transformers prints while it loads or saves."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)
