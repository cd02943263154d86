"""A folder of transformers: config.json and safetensors of a class that it has, read without this project.

The tables of `search_spaces.families` say which class computes a network, and what its tensors are called
there. What was written is loaded by transformers and compared with our model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from foundation.errors import SettingError
from foundation.settings import setting
from nas.exports.base import Network, Target, targets
from search_spaces.checkpoints.against_transformers import compared
from search_spaces.checkpoints.writing import family_with, write_folder
from search_spaces.network.decoder import Decoder


@targets.add
@dataclass(frozen=True, kw_only=True)
class Hf(Target):
    """A folder for `AutoModelForCausalLM.from_pretrained`, in float32.

    Of several classes that compute the network, that with the shortest configuration is taken.
    """

    name = "hf"
    extra: ClassVar[str] = "hf"
    modules: ClassVar[tuple[str, ...]] = ("transformers",)

    family: str = setting("", help="The family, as `model_type` of its config.json; empty: one that fits.")

    def unsupported(self, spec: Decoder) -> str:
        """See `Target.unsupported`."""
        try:
            family_with(spec, self.family)
        except SettingError as error:
            return str(error)
        return ""

    def write_files(self, network: Network, folder: Path) -> Mapping[str, Any]:
        """See `Target.write_files`."""
        tokens = network.about.get("tokens")
        family = write_folder(network.model, folder, family=self.family, tokens=tokens)
        found = compared(network.model, folder)
        return {
            "family": family.name,
            "differences": {"prefill": found.prefill, "decode": found.decode},
        }
