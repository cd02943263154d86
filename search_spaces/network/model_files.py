"""Exported models: a folder with the architecture and the weights, and nothing that runs when it is read.

`config.json` names the architecture by registered names; `model.safetensors` holds the weights as they are
really stored: bfloat16, packed integers of 8 to 2 bits or ternary ones with bfloat16 scales, and 32 bits for
the small vectors.

Nothing in it is pickled, so a folder from somebody else can be loaded safely.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from foundation.errors import FileError, NasError, SettingError
from foundation.files import write_json
from search_spaces.language.serialization import from_plain, to_plain
from search_spaces.network.decoder import Decoder
from search_spaces.network.model import Model
from search_spaces.network.weight_formats import weight_bits
from search_spaces.quantization.packing import SCALE_SUFFIX, pack, unpack
from search_spaces.tensor_files import open_tensors, write_tensors

FORMAT = 2
CONFIG, WEIGHTS = "config.json", "model.safetensors"


def save_model(model: Model, folder: str | Path, about: Mapping[str, Any] | None = None) -> Path:
    """Write a model; `about` is kept in its configuration for the reader (where it came from, its scores).

    Raises:
        SettingError: the folder holds something else.
        FileError: it cannot be written.
    """
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()) and not (folder / CONFIG).exists():
        raise SettingError(f"{folder} is not empty and holds no exported model: choose another folder")
    stored: dict[str, torch.Tensor] = {}
    bits = weight_bits(model)
    for name, parameter in model.named_parameters():
        values = parameter.detach().cpu()
        stored_as = bits[name]
        packed = {"": values.float()} if stored_as is None else pack(values, stored_as)
        stored |= {name + suffix: tensor.contiguous() for suffix, tensor in packed.items()}
    config = {"format": FORMAT, "spec": to_plain(model.spec), "about": dict(about or {})}
    write_tensors(folder / WEIGHTS, stored)
    write_json(folder / CONFIG, config, indent=2)
    return folder


def read_config(folder: str | Path) -> dict[str, Any]:
    """The configuration of an exported model.

    Raises:
        SettingError: there is none, or it is of another format.
    """
    path = Path(folder) / CONFIG
    try:
        config: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        raise SettingError(f"{folder} holds no exported model ({CONFIG} is missing)") from None
    except (OSError, ValueError) as error:
        raise SettingError(f"{path} cannot be read: {error}") from None
    if config.get("format") != FORMAT:
        raise SettingError(f"{path} has format {config.get('format')!r}; this version reads {FORMAT}")
    return config


def load_model(folder: str | Path, *, device: str = "cpu") -> Model:
    """The exported model in float32, a plain `nn.Module` in evaluation mode.

    Raises:
        SettingError: the folder holds no model, or weights that do not fit its architecture.
    """
    config = read_config(folder)
    try:
        spec = from_plain(config["spec"])
        spec.check()
    except (NasError, KeyError, TypeError, AttributeError) as error:
        raise SettingError(f"{folder}: the architecture cannot be read: {error}") from None
    model = _empty(spec, device)
    try:
        with open_tensors(Path(folder) / WEIGHTS, device=device) as stored:
            _fill(model, stored)
    except (FileError, KeyError, RuntimeError) as error:
        raise SettingError(f"{folder}: the weights do not fit the architecture: {error}") from None
    return model.eval()


def _empty(spec: Decoder, device: str) -> Model:
    with torch.device("meta"):
        model = Model(spec)
    return model.to_empty(device=device)


@torch.no_grad()
def _fill(model: Model, stored: Mapping[str, torch.Tensor]) -> None:
    bits = weight_bits(model)
    for name, parameter in model.named_parameters():
        stored_as = bits[name]
        values = stored[name]
        if stored_as is not None:
            packed = {"": values}
            if name + SCALE_SUFFIX in stored:
                packed[SCALE_SUFFIX] = stored[name + SCALE_SUFFIX]
            values = unpack(packed, stored_as, parameter.shape[-1], parameter.dtype)
        parameter.copy_(values)
