"""A folder of transformers, read without this project: config.json, safetensors, tokenizer.json.

The tables of `search_spaces.families` say which class of transformers computes a network, and what its
tensors are called there. A network that none computes gets a class of its own, with the source that it needs
(`search_spaces.checkpoints.self_contained`). What was written is loaded by transformers and compared with our
model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from foundation.errors import SettingError
from foundation.files import write_json
from foundation.settings import setting
from nas.exports.base import Network, Target, targets
from search_spaces.checkpoints import self_contained
from search_spaces.checkpoints.against_transformers import compared
from search_spaces.checkpoints.writing import family_with, write_folder
from search_spaces.network.decoder import Decoder

BYTES = 256
"""The vocabulary of a network whose tokens are bytes."""


@targets.add
@dataclass(frozen=True, kw_only=True)
class Hf(Target):
    """A folder for `AutoModelForCausalLM.from_pretrained`, in float32.

    Of several classes that compute the network, that with the shortest configuration is taken. Where there is
    none, the folder has its own class, in Python: it is loaded with `trust_remote_code=True`.
    """

    name = "hf"
    extra: ClassVar[str] = "hf"
    modules: ClassVar[tuple[str, ...]] = ("transformers",)

    family: str = setting(
        "",
        help="The family, as `model_type` of its config.json; nas: a class of its own; empty: one that fits.",
    )

    def unsupported(self, spec: Decoder) -> str:
        """See `Target.unsupported`."""
        native, own = self._native(spec), self_contained.no_self_contained_form(spec)
        if self.family == self_contained.NAME:
            return own
        return f"{native}; {own}" if native and own else native if self.family else ""

    def write_files(self, network: Network, folder: Path) -> Mapping[str, Any]:
        """See `Target.write_files`."""
        spec, tokens = network.model.spec, network.about.get("tokens")
        why = "asked for" if self.family == self_contained.NAME else self._native(spec)
        if why:
            title = str(network.about.get("digest") or network.about.get("architecture") or "A network")
            self_contained.write_self_contained(network.model, folder, title=title, tokens=tokens)
            told = {"family": self_contained.NAME, "class_of_its_own": why}
        else:
            told = {"family": write_folder(network.model, folder, family=self.family, tokens=tokens).name}
        if network.tokenizer is not None or spec.vocab == BYTES:
            write_json(folder / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast"})
        found = compared(network.model, folder, own_class=bool(why))
        return {**told, "differences": {"prefill": found.prefill, "decode": found.decode}}

    def export(self, network: Network, folder: str | Path, *, force: bool = False) -> dict[str, Any]:
        """See `Target.export`; a network of bytes gets a tokenizer of bytes."""
        if network.tokenizer is None and network.model.spec.vocab == BYTES:
            network = replace(network, tokenizer=self_contained.byte_tokenizer())
        return super().export(network, folder, force=force)

    def _native(self, spec: Decoder) -> str:
        """Why no class of transformers computes a network; empty where one does."""
        try:
            family_with(spec, "" if self.family == self_contained.NAME else self.family)
        except SettingError as error:
            return str(error)
        return ""
