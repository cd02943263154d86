"""Exported models for the campaign, made once: whole ones, and what is wrong with others."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from search_spaces.blocks.attention import Attention
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.serialization import to_plain
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.model import build
from search_spaces.network.model_files import CONFIG, WEIGHTS, save_model
from search_spaces.quantization.bits import Bits

LAYER = Layer(
    sequence_mixer=Attention(num_heads=2, num_kv_heads=1, head_dim=8),
    channel_mixer=SwiGLU(),
    bits=Bits(weight=4),
)
SPEC = Decoder(d_model=16, layers=(LAYER, LAYER))
PLAIN_LAYER: dict[str, Any] = to_plain(LAYER)

Prepare = Callable[[Path], None]


@cache
def _whole() -> Path:
    return save_model(build(SPEC, seed=1), tempfile.mkdtemp(prefix="nas-model-"), {"from": "the campaign"})


def whole(at: Path) -> Path:
    """A copy of a whole model."""
    shutil.copytree(_whole(), at / "model")
    return at / "model"


def as_it_is(at: Path) -> None:
    """A whole model."""
    whole(at)


def config(**changes: Any) -> Prepare:
    """A model of which fields of the configuration are others."""

    def prepare(at: Path) -> None:
        path = whole(at) / CONFIG
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return prepare


def spec(**changes: Any) -> Prepare:
    """A model of which fields of the architecture are others."""
    return config(spec=to_plain(SPEC) | changes)


def layer(**changes: Any) -> Prepare:
    """A model of which fields of the first layer are others."""
    return spec(layers=[PLAIN_LAYER | changes, PLAIN_LAYER])


def mixer(**changes: Any) -> Prepare:
    """A model of which fields of the first sequence mixer are others."""
    return layer(sequence_mixer=PLAIN_LAYER["sequence_mixer"] | changes)


def text(content: str | bytes, name: str = CONFIG) -> Prepare:
    """A model of which a file is another."""

    def prepare(at: Path) -> None:
        (whole(at) / name).write_bytes(content.encode() if isinstance(content, str) else content)

    return prepare


def tensors(changes: Mapping[str, Tensor | None]) -> Prepare:
    """A model of which tensors are others, or missing; it has no hash, so nothing else is wrong with it."""

    def prepare(at: Path) -> None:
        folder = whole(at)
        held = {**load_file(folder / WEIGHTS), **changes}
        save_file({name: tensor for name, tensor in held.items() if tensor is not None}, folder / WEIGHTS)
        plain = json.loads((folder / CONFIG).read_text())
        del plain["weights_sha256"]
        (folder / CONFIG).write_text(json.dumps(plain))

    return prepare


def header(plain: Any, data: bytes = b"") -> bytes:
    """A file of tensors with this header."""
    written = plain if isinstance(plain, bytes) else json.dumps(plain).encode()
    return len(written).to_bytes(8, "little") + written + data


def one_tensor(shape: list[int], begin: int = 0, end: int = 4, dtype: str = "F32") -> bytes:
    """A file of one tensor with this entry, and four bytes."""
    return header({"a": {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}}, bytes(4))


def instead(make: Callable[[Path], Any], name: str = CONFIG) -> Prepare:
    """A model in which something else stands at the place of a file."""

    def prepare(at: Path) -> None:
        path = whole(at) / name
        path.unlink()
        make(path)

    return prepare


def ones(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """What has the wrong shape or type somewhere."""
    return torch.ones(shape, dtype=dtype)
