"""Searches that begin with a trained network: the space around it.

nas.space_around("parent", "around.py")         # then nas.search("around.py", name="first")
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from evaluators.blockwise.additive_part import does_not_add_up
from foundation.errors import SettingError
from foundation.files import real_path, write_atomically
from foundation.wording import argument
from nas.training.start import start_of
from search_spaces.alternatives import Alternatives
from search_spaces.around_a_network import source_of_space
from search_spaces.network.model_files import CONFIG
from search_spaces.zoo import PREFIX as ZOO

OBJECTIVES = ("bits_per_byte", "weight_bytes")


def space_around(
    parent: str | Path,
    wanted: Alternatives | None = None,
    output: str | Path | None = None,
    *,
    force: bool = False,
) -> str:
    """The source of a space around the network in a folder, written to the file `output` where one is named.

    Raises:
        SettingError: the folder holds no model, or one that nothing can be put in place of; the file is there
            already, and no `force`.
        FileError: it cannot be written.
    """
    path = None if output is None else Path(output)
    if path is not None and path.suffix != ".py":
        raise SettingError(f"a space is a Python file: {argument('output', 'FILE.py')}, not {output}")
    if path is not None and path.exists() and not force:
        raise SettingError(
            f"{path} is there already: name another file, or replace it with {argument('force', True)}"
        )
    if str(parent).startswith(ZOO):
        raise SettingError(
            f"{parent} has no trained weights: name a folder that `nas import` or `nas export` wrote"
        )
    folder = Path(parent)
    if not (folder / CONFIG).is_file():
        there = f"{folder} holds no exported model" if folder.is_dir() else f"there is no folder {folder}"
        raise SettingError(f"{there}: name one that `nas import`, `nas export` or `nas train` wrote")
    start = start_of(str(parent))
    if reason := does_not_add_up(start.model.spec):
        raise SettingError(f"{parent}: {reason}, so its parts cannot be replaced one by one")
    name = re.sub(r"[^\w.-]", "_", folder.resolve().name)
    defaults: dict[str, Any] = {
        "parent": real_path(parent),
        "engine": "exact",
        "objectives": list(OBJECTIVES),
        "trials": 32,
        "finalists": 0,
    }
    text = source_of_space(
        start.model.spec,
        wanted or Alternatives(),
        name=f"around_{name}",
        about=f"the network {name}",
        defaults=defaults,
    )
    if path is not None:
        write_atomically(path, text)
    return text
