"""Exported models: a folder with the architecture and the weights, and nothing that runs when it is read.

`config.json` names the architecture by registered names; `model.safetensors` holds the weights as they are
really stored: bfloat16, packed integers of 8 to 2 bits or ternary ones with bfloat16 scales, and 32 bits for
the small vectors, and for what bfloat16 would round of a model that was imported. A model of tokens has its
`tokenizer.json` beside them.

Nothing in it is pickled, so a folder from somebody else can be loaded safely: sizes, types and shapes are
checked before anything is made of them, and the weights must be exactly those of the architecture.

A folder is whole at any moment, also while a second export replaces the first. The configuration names its
weights by their hash; new weights wait under another name until the configuration names them:

    .model.safetensors.new  is written          readers find the old pair
    config.json             is replaced         readers find the new pair: the hash tells which file
    .model.safetensors.new  becomes model.safetensors
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from foundation.errors import FileError, NasError, NoFile, SettingError
from foundation.files import (
    flush,
    opened,
    read_bytes,
    read_json,
    require_room,
    write_atomically,
    write_json,
)
from foundation.text import one_line, shown
from search_spaces.devices import memory_here
from search_spaces.language.serialization import NO_KINDS, Kinds, from_plain, to_plain
from search_spaces.language.walk import open_values
from search_spaces.network.decoder import Decoder
from search_spaces.network.model import Model
from search_spaces.network.size_limits import check_closed_size
from search_spaces.network.stored_weights import expected_tensors, fill, misfit, packed_weights, too_few
from search_spaces.tensor_files import open_tensors, write_tensors


@dataclass(frozen=True)
class ModelCode:
    """Python files by relative path, and by the name of each part that they define the file that does."""

    files: Mapping[str, bytes]
    kinds: Mapping[str, str]

    def to_plain(self) -> dict[str, Any]:
        """What a configuration says of it; the files are named by their hashes."""
        hashes = {name: hashlib.sha256(content).hexdigest() for name, content in self.files.items()}
        return {"kinds": dict(sorted(self.kinds.items())), "files": dict(sorted(hashes.items()))}


FORMAT = 2
CODE, WAITING_CODE = "code", ".code.new"
"""Folders with the source of parts that the library lacks; it never runs unasked (see `nas.load`)."""
CONFIG, WEIGHTS = "config.json", "model.safetensors"
WAITING = f".{WEIGHTS}.new"
HASH = "weights_sha256"
UNFINISHED = "unfinished"
"""What a configuration says where the weights are not yet those that its folder is for: which work was begun
there, and how it goes on."""
TOKENIZER = "tokenizer.json"
WAITING_TOKENIZER = f".{TOKENIZER}.new"
TOKENIZER_HASH = "tokenizer_sha256"
TOKENIZER_BYTES = 2**26
"""The largest tokenizer that is read: some 256,000 tokens and their merges take half of it."""


def save_model(
    model: Model,
    folder: str | Path,
    about: Mapping[str, Any] | None = None,
    *,
    force: bool = False,
    code: ModelCode | None = None,
    tokenizer: bytes | None = None,
    exact: bool = False,
    unfinished: str = "",
) -> Path:
    """Write a model; `about` is kept in its configuration for the reader (where it came from, its scores).

    `code` is the source of parts that the library lacks, and `tokenizer` the content of a tokenizer.json:
    they are written beside the weights. With `exact`, no weight of 16 bits is rounded to bfloat16. A model
    that is `unfinished`, which says what goes on with it, is refused when it is loaded.

    With `force`, a model that was exported into this folder before is replaced. Whoever reads the folder
    meanwhile finds the old model or the new one, also where this is killed.

    Raises:
        SettingError: the folder holds something else, or a model and no `force`; a weight is not finite.
        FileError: it cannot be written.
    """
    check_free(folder, force=force)
    folder = Path(folder)
    write_tensors(folder / WAITING, packed_weights(model, exact=exact))
    plain = {"format": FORMAT, "spec": to_plain(model.spec), "about": dict(about or {})}
    if unfinished:
        plain[UNFINISHED] = unfinished
    if code is not None:
        _write_code(folder / WAITING_CODE, code)
        plain[CODE] = code.to_plain()
    if tokenizer is not None:
        write_atomically(folder / WAITING_TOKENIZER, tokenizer)
        plain[TOKENIZER_HASH] = hashlib.sha256(tokenizer).hexdigest()
    write_json(folder / CONFIG, plain | {HASH: _hash(folder / WAITING)}, indent=2)
    try:
        os.replace(folder / WAITING, folder / WEIGHTS)
        shutil.rmtree(folder / CODE, ignore_errors=True)  # the configuration names that which waits
        if code is not None:
            os.replace(folder / WAITING_CODE, folder / CODE)
        (folder / TOKENIZER).unlink(missing_ok=True)
        if tokenizer is not None:
            os.replace(folder / WAITING_TOKENIZER, folder / TOKENIZER)
        flush(folder)
    except OSError as error:
        raise FileError(f"cannot write {folder / WEIGHTS}: {error.strerror}") from error
    return folder


def mark_unfinished(folder: str | Path, unfinished: str = "") -> None:
    """Say of a model that is there that it is unfinished, and how it goes on; by default that it is not.

    Raises:
        SettingError: there is no model.
        FileError: it cannot be written.
    """
    config = read_config(folder)
    if config.get(UNFINISHED, "") != unfinished:
        config.pop(UNFINISHED, None)
        write_json(Path(folder, CONFIG), config | ({UNFINISHED: unfinished} if unfinished else {}), indent=2)


def _write_code(folder: Path, code: ModelCode) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    for name, content in code.files.items():
        write_atomically(folder / name, content)


def check_free(folder: str | Path, *, force: bool = False) -> None:
    """Raise `SettingError` where a model may not be exported into this folder.

    It may be absent or empty; with `force`, it may also hold an exported model.
    """
    folder = _named(folder)
    waiting = (WAITING, WAITING_CODE, WAITING_TOKENIZER)
    require_room(folder, "an exported model", _is_ours, replaces=force, left=waiting)


def _is_ours(folder: Path) -> bool:
    """Whether a folder holds a model that was exported from here, of whatever format."""
    try:
        config = read_json(folder / CONFIG)
    except FileError:
        return False
    return isinstance(config, dict) and type(config.get("format")) is int and "spec" in config


def read_config(folder: str | Path) -> dict[str, Any]:
    """The configuration of an exported model.

    Raises:
        SettingError: there is none, it cannot be read, or it is of another format.
    """
    path = _named(folder) / CONFIG
    try:
        config = read_json(path)
    except NoFile:
        raise SettingError(f"{folder} holds no exported model ({CONFIG} is missing)") from None
    except FileError as error:
        raise SettingError(f"{path} cannot be read: {_without(path, error)}") from None
    if not isinstance(config, dict):
        raise SettingError(f"{path} cannot be read: it is no configuration")
    if "format" not in config and config.get("model_type") == "nas":
        raise SettingError(f"{folder} was exported for transformers: take the network that it was made of")
    if "format" not in config and "model_type" in config:
        raise SettingError(f"{folder} holds a model of transformers: `nas import` makes one of ours of it")
    if config.get("format") != FORMAT:
        raise SettingError(f"{path} has format {shown(config.get('format'))}; this version reads {FORMAT}")
    if not isinstance(config.get("about", {}), dict):
        raise SettingError(f"{path} cannot be read: 'about' must be an object")
    return config


def load_model(
    folder: str | Path, *, device: str = "cpu", kinds: Kinds = NO_KINDS, unfinished: bool = False
) -> Model:
    """The exported model in float32, a plain `nn.Module` in evaluation mode.

    `kinds` are parts that are known besides the registered ones. Code in the folder is not run: `nas.load` is
    for that. What goes on with a model that is `unfinished` may read it.

    Raises:
        SettingError: the folder holds no model, an unfinished one, or weights that do not fit its
            architecture.
    """
    config, folder = read_config(folder), Path(folder)
    if config.get(UNFINISHED) and not unfinished:
        raise SettingError(f"{folder} is unfinished: {one_line(str(config[UNFINISHED]))}")
    try:
        spec = _architecture(config, kinds)
    except NasError as error:
        raise SettingError(f"{folder}: the architecture cannot be read: {error}") from None
    reasons = []
    for path in (folder / WEIGHTS, folder / WAITING):
        try:
            model = _filled(spec, path, config.get(HASH), device)
        except NoFile as error:
            reasons.append(f"{_without(path, error)}")
        except (FileError, Misfit) as error:
            reasons.append(_without(path, error))
        else:
            return model.eval()
    raise SettingError(f"{folder}: the weights do not fit the architecture: {reasons[0]}")


def read_tokenizer(folder: str | Path) -> bytes | None:
    """The content of the tokenizer.json of an exported model; None for a model of bytes, which has none.

    Raises:
        SettingError: the folder holds no model, or not the tokenizer that it was written with.
    """
    digest = read_config(folder).get(TOKENIZER_HASH)
    if digest is None:
        return None
    for name in (TOKENIZER, WAITING_TOKENIZER):
        try:
            content = read_bytes(Path(folder, name), at_most=TOKENIZER_BYTES)
        except NoFile:
            continue
        except FileError as error:
            raise SettingError(str(error)) from None
        if hashlib.sha256(content).hexdigest() == digest:
            return content
    raise SettingError(f"{folder}: {TOKENIZER} is missing, or is not the one that {CONFIG} was written for")


def _named(folder: str | Path) -> Path:
    """The folder of a model; an empty path, which is refused, would be the current one."""
    if not isinstance(folder, (str, Path)):
        raise SettingError(f"the folder for a model is a path, got {folder!r}")
    if folder == "":
        raise SettingError("the folder for a model must not be empty")
    return Path(folder)


class Misfit(NasError):
    """A file does not hold the weights of an architecture."""


def _architecture(config: Mapping[str, Any], kinds: Kinds) -> Decoder:
    """The closed architecture of a configuration, of a size that can be built.

    Raises:
        NasError: there is none.
    """
    if "spec" not in config:
        raise SettingError("'spec' is missing")
    spec = from_plain(config["spec"], kinds)
    if not isinstance(spec, Decoder):
        raise SettingError(f"expected a Decoder, got {shown(spec)}")
    left_open = next(open_values(spec), None)
    if left_open is not None:
        raise SettingError(f"{left_open[0]} is left open: this is a space, no architecture")
    spec.check()
    check_closed_size(spec)
    return spec


def _filled(spec: Decoder, path: Path, digest: Any, device: str) -> Model:
    """The model with the weights in a file.

    Raises:
        Misfit: they are not those of the architecture.
        FileError: it cannot be read.
    """
    with open_tensors(path, device=device) as stored:
        if why := too_few(spec, stored):
            raise Misfit(why)
        with torch.device("meta"):
            model = Model(spec)
        if why := misfit(expected_tensors(model), stored.about) or _too_large(model, device):
            raise Misfit(why)
        if digest is not None and digest != _hash(path):
            raise Misfit(f"{path.name} is not the file that {CONFIG} was written for")
        try:
            model = model.to_empty(device=device)
        except RuntimeError as error:
            raise Misfit(f"no memory for it: {str(error).splitlines()[0]}") from None
        if why := fill(model, stored):
            raise Misfit(why)
    return model


def _too_large(model: Model, device: str) -> str:
    """Why a model has no room in this machine's memory; empty where it has."""
    needed, there = sum(4 * parameter.numel() for parameter in model.parameters()), memory_here()
    if device != "cpu" or there is None or needed <= there:
        return ""
    return f"it needs {needed / 2**30:.1f} GiB of memory, and this machine has {there / 2**30:.1f}"


def _hash(path: Path) -> str:
    with opened(path, at_most=2**63) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _without(path: Path, error: Exception) -> str:
    """What is wrong with a file that the sentence names already."""
    return re.sub(r"^(is|cannot be read:) ", "", str(error).removeprefix(f"{path}").lstrip(": "))
