"""Adapters by name, from the folders that a user names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from evaluators.compression.adapters import FILE, Adapter, read_adapter
from evaluators.training.trainable import weights_digest
from foundation.errors import SettingError
from search_spaces.network.model import Model

MOST = 10_000


def adapters_in(folders: Sequence[str | Path], model: Model, base: str) -> dict[str, Adapter]:
    """The adapters of these folders, or of the folders in them, by the names of their folders.

    `model` is the base, as it was loaded, and `base` the name that it has itself.

    Raises:
        SettingError: a folder holds none, or one of another network; two have the same name.
    """
    digest, found = weights_digest(dict(model.named_parameters())), dict[str, Adapter]()
    for folder in map(Path, folders):
        inside = _inside(folder)
        for each in inside or [folder]:
            name = each.resolve().name
            if name in found or name == base:
                raise SettingError(f"two networks would have the name {name!r}: rename the folder {each}")
            if len(found) == MOST:
                raise SettingError(f"more than {MOST:,} adapters")
            found[name] = read_adapter(each, model, digest)
    return found


def _inside(folder: Path) -> list[Path]:
    """The adapters that a folder holds which is none itself."""
    if (folder / FILE).exists() or not folder.is_dir():
        return []
    try:
        return sorted(each.parent for each in folder.glob(f"*/{FILE}"))
    except OSError as error:
        raise SettingError(f"{folder} cannot be read: {error.strerror}") from None
