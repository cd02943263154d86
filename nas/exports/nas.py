"""Our own format: config.json and model.safetensors at the bits of the weights; `nas.load(DIR)` reads it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas.exports.base import Network, Target, targets
from search_spaces.network import model_files


@targets.add
@dataclass(frozen=True, kw_only=True)
class Nas(Target):
    """A folder that this project reads; blocks of the user's own go along as source, in `code`.

    It is whole at any moment, also while a second export replaces the first.
    """

    name = "nas"

    def check(self, folder: str | Path, *, force: bool = False) -> None:
        """See `Target.check`."""
        model_files.check_free(folder, force=force)

    def export(self, network: Network, folder: str | Path, *, force: bool = False) -> dict[str, Any]:
        """See `Target.export`."""
        about = dict(network.about)
        model_files.save_model(
            network.model, folder, about, force=force, code=network.code, tokenizer=network.tokenizer
        )
        return about
