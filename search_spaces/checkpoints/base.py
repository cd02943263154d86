"""A checkpoint: the configuration of a model and its tensors by name, none of which is read yet.

What a checkpoint says of itself (names, shapes, types) is known from headers, so whether it fits an
architecture, and what memory it takes, is judged before any weight is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from search_spaces.families.config import Config
from search_spaces.tensor_files import Stored

FLOATS = ("F64", "F32", "F16", "BF16")
"""Types of numbers that weights may have."""


@dataclass(frozen=True)
class Checkpoint(Mapping[str, Tensor]):
    """A model that somebody else wrote, open for reading.

    `config` and the names of tensors are those of transformers, whatever the file calls them. `about` says
    how each tensor lies there (a type other than `FLOATS` cannot be read as a weight). `tokenizer` is the
    text of its `tokenizer.json`, None where there is none, for the reason in `without_tokenizer`.
    """

    path: Path
    config: Config
    about: Mapping[str, Stored]
    tokenizer: bytes | None = None
    without_tokenizer: str = field(default="it has no tokenizer.json", kw_only=True)

    def __getitem__(self, name: str) -> Tensor:
        raise NotImplementedError

    def __iter__(self) -> Iterator[str]:
        return iter(self.about)

    def __len__(self) -> int:
        return len(self.about)


@dataclass(frozen=True)
class Respelled(Checkpoint):
    """A checkpoint under other names: those in `names`, with the names in `inner`."""

    inner: Checkpoint = field(kw_only=True)
    names: Mapping[str, str] = field(kw_only=True)

    @classmethod
    def of(cls, inner: Checkpoint, endings: Mapping[str, str]) -> Respelled:
        """With other endings of names, by those in the file."""
        names = {}
        for name in inner.about:
            old = next((ending for ending in endings if name.endswith(ending)), "")
            names[name.removesuffix(old) + endings.get(old, "")] = name
        about = {new: inner.about[name] for new, name in names.items()}
        tokenizer, without = inner.tokenizer, inner.without_tokenizer
        return cls(
            inner.path,
            inner.config,
            about,
            tokenizer,
            without_tokenizer=without,
            inner=inner,
            names=names,
        )

    def __getitem__(self, name: str) -> Tensor:
        return self.inner[self.names[name]]
