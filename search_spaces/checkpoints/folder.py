"""Folders as Hugging Face has them: config.json, safetensors in one file or sharded by an index.

    with open_folder("SmolLM2-135M") as checkpoint:
        checkpoint.config.get("hidden_size"), checkpoint["model.norm.weight"]

Nothing is unpickled, and no file outside the folder is opened: the index names files, not paths.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from foundation.errors import FileError, NoFile, SettingError
from foundation.files import read_bytes, read_json
from foundation.text import count, shown
from search_spaces.checkpoints.base import Checkpoint
from search_spaces.families.config import Config
from search_spaces.network.model_files import TOKENIZER, TOKENIZER_BYTES
from search_spaces.tensor_files import Stored, TensorFile, open_tensors

CONFIG, ONE_FILE, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
INDEX_BYTES = 2**25
"""The largest index that is read: a line for each of 300,000 tensors."""

PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
"""What holds weights as a pickle, which runs as a program when it is read."""


@dataclass(frozen=True)
class _Folder(Checkpoint):
    """A folder with its open files, by the name of each tensor."""

    homes: Mapping[str, TensorFile] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Tensor:
        return self.homes[name][name]


@contextmanager
def open_folder(path: str | Path) -> Iterator[Checkpoint]:
    """A checkpoint in a folder.

    Raises:
        SettingError: it holds no model, or one that is a pickle; an index names a file outside of it.
        FileError: a file is damaged, or is missing.
    """
    path = Path(path)
    config = _config(path)
    with ExitStack() as stack:
        homes: dict[str, TensorFile] = {}
        for name, names in _files(path).items():
            file = stack.enter_context(open_tensors(path / name))
            if missing := [tensor for tensor in names or () if tensor not in file]:
                raise FileError(f"{path / name} lacks {shown(missing[0])}, which {INDEX} says it holds")
            homes |= dict.fromkeys(names or file, file)
        about: dict[str, Stored] = {name: file.about[name] for name, file in homes.items()}
        yield _Folder(path, config, about, _tokenizer(path), homes=homes)


def _config(path: Path) -> Config:
    if path.is_file():
        raise SettingError(f"{path} is a file: give the folder that holds {CONFIG}, or a file in GGUF")
    try:
        plain = read_json(path / CONFIG)
    except NoFile:
        raise SettingError(f"{path} holds no model of transformers ({CONFIG} is missing)") from None
    if not isinstance(plain, dict):
        raise FileError(f"{path / CONFIG} is no configuration: it holds no object")
    if plain.get("model_type") == "nas":
        raise SettingError(f"{path} was exported by this project: take the network that it was made of")
    if "model_type" not in plain and "spec" in plain:
        raise SettingError(f"{path} is a model of this project already: there is nothing to import")
    return Config(plain, str(path / CONFIG))


def _files(path: Path) -> dict[str, list[str] | None]:
    """The files with weights, and the tensors that each is said to hold (None: all that it has)."""
    try:
        plain: Any = read_json(path / INDEX, at_most=INDEX_BYTES)
    except NoFile:
        return {ONE_FILE: None} if (path / ONE_FILE).exists() else _refused(path)
    listed = plain.get("weight_map") if isinstance(plain, dict) else None
    if not isinstance(listed, dict) or not listed:
        raise FileError(f"{path / INDEX} is no index: it has no weight_map")
    found: dict[str, list[str] | None] = {}
    for tensor, name in listed.items():
        if not isinstance(name, str) or name in ("", ".", "..") or Path(name).name != name or "\\" in name:
            raise SettingError(
                f"{path / INDEX} says that {shown(tensor)} is in {shown(name)}: an index names files of its"
                " folder"
            )
        if not name.endswith(".safetensors"):
            raise SettingError(
                f"{path / INDEX} says that {shown(tensor)} is in {shown(name)}: only safetensors are read"
            )
        found[name] = [*(found.get(name) or []), tensor]
    return found


def _refused(path: Path) -> dict[str, list[str] | None]:
    """Raise the error of a folder without safetensors."""
    pickles = sorted(file.name for kind in PICKLES for file in path.glob(kind))
    if pickles:
        raise SettingError(
            f"{path} holds its weights as a pickle ({pickles[0]}), which would run as a program:"
            " save the model as safetensors"
        )
    others = sorted(file.name for file in path.glob("*.safetensors"))
    hint = f": there is {count(len(others), 'other file')}, such as {others[0]}" if others else ""
    raise SettingError(f"{path} holds no weights ({ONE_FILE} and {INDEX} are missing{hint})")


def _tokenizer(path: Path) -> bytes | None:
    try:
        return read_bytes(path / TOKENIZER, at_most=TOKENIZER_BYTES)
    except NoFile:
        return None
