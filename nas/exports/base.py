"""The contract of an export target: a format that a network with its weights is written in.

    @targets.add
    @dataclass(frozen=True, kw_only=True)
    class Mine(Target):
        name = "mine"

        def write_files(self, network, folder):
            (folder / "network.mine").write_bytes(...)
            return {"differences": {"prefill": 0.0, "decode": 0.0}}

    target_of("mine,setting=3").export(network, "out")

A target is one file in this folder; `nas export STUDY TRIAL --to NAME[,SETTING=VALUE...]` names it. It checks
what it has written before anybody else sees it: what comes back under `differences` are the largest absolute
differences of logits from those of our own model, which the command prints.

A folder appears whole or not at all: the files are written beside it and renamed. What was exported is told
by `export.json` in it.
"""

from __future__ import annotations

import os
from abc import ABC
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from foundation.components import Part
from foundation.errors import FileError, SettingError
from foundation.extras import require_extra
from foundation.files import flush, read_json, require_room, write_atomically, write_json
from foundation.registry import Registry
from foundation.scratch import scratch_folder
from foundation.wording import argument
from search_spaces.network.decoder import Decoder
from search_spaces.network.model import Model
from search_spaces.network.model_files import TOKENIZER, ModelCode

MANIFEST = "export.json"

targets: Registry[type[Target]] = Registry("export target", folder="nas.exports")
"""All formats by name."""


@dataclass(frozen=True)
class Network:
    """What is exported: a model in float32, where it comes from, and the source of a user's own blocks.

    `tokenizer` is the content of its tokenizer.json; None where tokens are bytes.
    """

    model: Model
    about: Mapping[str, Any] = field(default_factory=dict)
    code: ModelCode | None = None
    tokenizer: bytes | None = None


@dataclass(frozen=True, kw_only=True)
class Target(Part, ABC):
    """One format, with its settings; a subclass defines `name` and `write_files`."""

    registry = targets

    extra: ClassVar[str] = ""
    modules: ClassVar[tuple[str, ...]] = ()
    """The extra of this project that installs the modules that are needed; empty where none are."""

    def unsupported(self, spec: Decoder) -> str:
        """Why this format cannot hold a network, as the end of a sentence; empty where it can."""
        return ""

    def write_files(self, network: Network, folder: Path) -> Mapping[str, Any]:
        """Write all files into an empty folder and check them; what else is to be told of the export.

        Raises:
            SettingError: this format cannot hold the network.
        """
        raise NotImplementedError

    def check(self, folder: str | Path, *, force: bool = False) -> None:
        """Refuse at once what would otherwise end an export after the network was made.

        Raises:
            SettingError: a library is missing, or the folder holds something that may not be replaced.
        """
        self.require_libraries()
        check_free(folder, force=force)

    def require_libraries(self) -> None:
        """Make sure that what is needed is installed.

        Raises:
            SettingError: it is not; the extra is named.
        """
        if self.extra:
            require_extra(argument("to", self.name), self.extra, *self.modules)

    def require(self, spec: Decoder) -> None:
        """Make sure that this format can hold a network.

        Raises:
            SettingError: it cannot.
        """
        if reason := self.unsupported(spec):
            raise SettingError(f"{argument('to', self.name)}: {reason}")

    def export(self, network: Network, folder: str | Path, *, force: bool = False) -> dict[str, Any]:
        """Write a network into a folder, which is absent or empty; what is to be told of the export.

        With `force`, an export of this kind that is there before is replaced.

        Raises:
            SettingError: this format cannot hold the network, a library is missing, or the folder holds
                something that may not be replaced.
            FileError: it cannot be written.
        """
        self.check(folder, force=force)
        self.require(network.model.spec)
        folder = Path(folder)
        try:
            folder.absolute().parent.mkdir(parents=True, exist_ok=True)
            with scratch_folder(folder.absolute().parent) as scratch:
                new = scratch / "new"
                new.mkdir()
                told = {**network.about, **self.write_files(network, new)}
                if network.tokenizer is not None:
                    write_atomically(new / TOKENIZER, network.tokenizer)
                write_json(new / MANIFEST, {"target": self.to_plain(), "about": told}, indent=2)
                _put(new, folder, scratch / "old")
        except OSError as error:
            raise FileError(f"cannot write {folder}: {error.strerror or error}") from error
        return told


def target_of(text: str) -> Target:
    """The target that `NAME[,SETTING=VALUE...]` describes.

    Raises:
        UnknownName: there is no such format, or it has no such setting; the nearest is named.
        SettingError: a value is out of range.
    """
    if not isinstance(text, str):
        raise SettingError(f"{argument('to')} is the name of a format, such as nas, got {text!r}")
    return Target.from_line(text)


def check_free(folder: str | Path, *, force: bool = False) -> None:
    """Make sure that an export may be written into a folder: it is absent or empty, or an export and `force`.

    Raises:
        SettingError: it may not.
    """
    if not isinstance(folder, (str, Path)) or folder == "":
        raise SettingError(f"the folder of an export is a path, got {folder!r}")
    require_room(Path(folder), "an export", _is_export, replaces=force)


def _is_export(folder: Path) -> bool:
    try:
        manifest = read_json(folder / MANIFEST)
    except FileError:
        return False
    return isinstance(manifest, dict) and "target" in manifest


def _put(new: Path, folder: Path, old: Path) -> None:
    """Rename a folder to where it belongs, in the place of an earlier one."""
    if folder.is_dir() and any(folder.iterdir()):
        os.rename(folder, old)
    os.rename(new, folder)
    flush(folder.absolute().parent)
