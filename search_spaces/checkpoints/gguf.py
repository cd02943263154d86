"""Files in GGUF, the format of llama.cpp: one file with metadata, tokenizer and tensors, often quantized.

    with open_gguf("SmolLM2-135M-Instruct.Q4_1.gguf") as checkpoint:
        checkpoint.config.get("hidden_size"), checkpoint["model.norm.weight"]

Names are turned into those of transformers (`families.gguf_names`), packed weights into the float32 values
that they stand for. The package `gguf` reads the file.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from foundation.errors import FileError, SettingError
from foundation.extras import require_extra
from foundation.files import opened
from foundation.registry import nearest
from foundation.text import shown
from search_spaces.checkpoints.base import Checkpoint
from search_spaces.checkpoints.gguf_tokenizer import tokenizer_of
from search_spaces.families.base import Family, families
from search_spaces.families.config import Config
from search_spaces.families.gguf_names import KEYS, WITHOUT_EFFECT, GgufNames
from search_spaces.families.patterns import Pattern
from search_spaces.tensor_files import Stored

MAGIC = b"GGUF"
DAMAGED = (ValueError, IndexError, KeyError, TypeError, OverflowError, OSError, AttributeError, MemoryError)
"""What the package raises about a file that is no whole GGUF."""

FLOAT_TYPES = {"F64": "F64", "F32": "F32", "F16": "F16", "BF16": "BF16"}


@dataclass(frozen=True)
class _Gguf(Checkpoint):
    """An open file: its entries by the names of transformers."""

    names: GgufNames = field(default_factory=lambda: GgufNames(""))
    entries: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Tensor:
        values = self._values(name)
        part = name.rpartition(".")[0]
        if part.endswith(self.names.turned or ("\0",)):
            key = "num_key_value_heads" if part.endswith("k_proj") else "num_attention_heads"
            values = _turned_back(values, self.config.whole(key))
        if part.endswith(self.names.plus_one or ("\0",)):
            values = values - 1
        return values

    def _values(self, name: str) -> Tensor:
        """The values of a tensor, in float32 where they were packed."""
        from gguf.quants import dequantize

        entry, about = self.entries[name], self.about[name]
        try:
            if entry.tensor_type.name == "BF16":
                bits = torch.from_numpy(np.array(entry.data)).view(torch.bfloat16)
                return bits.reshape(about.shape)
            if entry.tensor_type.name in FLOAT_TYPES:
                return torch.from_numpy(np.array(entry.data)).reshape(about.shape)
            return torch.from_numpy(dequantize(entry.data, entry.tensor_type)).reshape(about.shape)
        except NotImplementedError:
            raise SettingError(
                f"{self.path}: {entry.name} is packed as {entry.tensor_type.name}, which the package gguf"
                " does not unpack"
            ) from None
        except (ValueError, RuntimeError, IndexError) as error:
            raise FileError(f"{self.path} is damaged: {entry.name}: {error}") from None


def _turned_back(values: Tensor, heads: int) -> Tensor:
    """Rows [heads * K, ...] whose halves of a head are interleaved, as they were."""
    rest = " D" if values.dim() == 2 else ""
    apart = values.unflatten(0, (heads, -1))
    return Pattern(f"H (2 P){rest} -> (H P 2){rest}").ours(values, apart.shape).flatten(0, 1)


@contextmanager
def open_gguf(path: str | Path) -> Iterator[Checkpoint]:
    """A checkpoint in one file.

    Raises:
        SettingError: the package `gguf` is missing, or the architecture is not known here.
        FileError: it is no whole file in GGUF.
    """
    path = Path(path)
    with opened(path, at_most=2**63) as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise FileError(f"{path} is no file in GGUF: it does not begin with {MAGIC.decode()}")
    require_extra(str(path), "gguf", "gguf")
    metadata, entries = _read(path)
    family = _family(path, metadata.get("general.architecture"))
    names = family.gguf
    assert names is not None
    own = {names.of_tensor(entry.name): entry for entry in entries}
    about = {name: _stored(entry) for name, entry in own.items()}
    config = Config(configuration_of(path, family, metadata, about), str(path))
    tokenizer, why = tokenizer_of(metadata)
    yield _Gguf(path, config, about, tokenizer, without_tokenizer=why, names=names, entries=own)


def _read(path: Path) -> tuple[dict[str, Any], list[Any]]:
    """The metadata by key, and the entries of tensors."""
    from gguf import GGUFReader

    try:
        reader = GGUFReader(path)
        metadata = {key: value.contents() for key, value in reader.fields.items()}
    except DAMAGED as error:
        raise FileError(
            f"{path} is damaged: {' '.join(str(error).split()) or type(error).__name__}"
        ) from None
    return metadata, list(reader.tensors)


def _family(path: Path, architecture: Any) -> Family:
    known = {family.gguf.architecture: family for family in families.values() if family.gguf}
    if not isinstance(architecture, str) or architecture not in known:
        raise SettingError(
            f"{path}: {shown(architecture)} is an architecture that is not known here;"
            f" {nearest(architecture, known)}"
        )
    return known[architecture]


def _stored(entry: Any) -> Stored:
    """How a tensor appears: packed ones as float32, which they are unpacked to."""
    shape = tuple(int(size) for size in reversed(entry.shape))
    return Stored(FLOAT_TYPES.get(entry.tensor_type.name, "F32"), shape)


def configuration_of(
    path: Path, family: Family, metadata: Mapping[str, Any], about: Mapping[str, Stored]
) -> dict[str, Any]:
    """The metadata as a configuration of transformers."""
    names = family.gguf
    assert names is not None
    prefix = f"{names.architecture}."
    own = {key.removeprefix(prefix): _plain(v) for key, v in metadata.items() if key.startswith(prefix)}
    values: dict[str, Any] = {"model_type": family.name}
    known = KEYS | dict(names.keys)
    for key, name in known.items():
        if name in own:
            _put(values, key, own[name])
    if values.get("rope_parameters", {}).get("rope_type") in (None, "none"):
        _put(values, "rope_parameters.rope_type", "default")
    if "model.embed_tokens.weight" in about:
        values["vocab_size"] = about["model.embed_tokens.weight"].shape[0]
    values["tie_word_embeddings"] = "lm_head.weight" not in about
    values["attention_bias"] = any(name.endswith("self_attn.q_proj.bias") for name in about)
    heads = values.get("num_attention_heads")
    if "head_dim" not in values and isinstance(heads, int) and heads > 0:
        values["head_dim"] = int(values.get("hidden_size") or 0) // heads
    turned = own.get("rope.dimension_count", values.get("head_dim"))
    if turned != values.get("head_dim"):
        raise SettingError(
            f"{path}: rotary positions turn {turned} of {values.get('head_dim')} channels of a head"
        )
    values |= {name: own[name] for name in own if name not in known.values() and name not in WITHOUT_EFFECT}
    return values


def _put(values: dict[str, Any], key: str, value: Any) -> None:
    outer, _, inner = key.rpartition(".")
    (values.setdefault(outer, {}) if outer else values)[inner] = value


def _plain(value: Any) -> Any:
    """A number as it was before it became a float32."""
    if isinstance(value, float) and math.isfinite(value):
        return float(str(np.float32(value)))
    return value
