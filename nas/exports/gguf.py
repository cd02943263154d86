"""GGUF: one file for llama.cpp and what is built on it, with the tokenizer in it and weights of a given type.

    llama-cli -m DIR/model.gguf -p "Once upon"

Networks of the architectures that llama.cpp computes and `search_spaces.families` has a table for. The file
is read again, and what it holds is compared with our model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from foundation.errors import SettingError
from foundation.settings import setting
from nas.exports.base import Network, Target, targets
from search_spaces.checkpoints.against_transformers import difference_between
from search_spaces.checkpoints.gguf_writing import TYPES, gguf_form, write_gguf
from search_spaces.checkpoints.reading import filled, open_checkpoint, plan_of
from search_spaces.network.decoder import Decoder


@targets.add
@dataclass(frozen=True, kw_only=True)
class Gguf(Target):
    """One file for llama.cpp: matrices of one type, vectors in float32."""

    name = "gguf"
    extra: ClassVar[str] = "gguf"
    modules: ClassVar[tuple[str, ...]] = ("gguf",)

    weights: str = setting("F16", help="The type of matrices.", choices=TYPES)
    context: int = setting(2048, help="The longest text that programs prepare for.", least=1, most=10**7)

    def unsupported(self, spec: Decoder) -> str:
        """See `Target.unsupported`."""
        try:
            gguf_form(spec)
        except SettingError as error:
            return str(error)
        return ""

    def write_files(self, network: Network, folder: Path) -> Mapping[str, Any]:
        """See `Target.write_files`."""
        path = folder / "model.gguf"
        told = write_gguf(
            network.model,
            path,
            weights=self.weights,
            context=self.context,
            title=str(network.about.get("digest") or network.about.get("architecture") or "nas"),
            tokenizer=network.tokenizer,
            tokens=network.about.get("tokens"),
        )
        with open_checkpoint(path) as checkpoint:
            again = filled(plan_of(checkpoint), checkpoint)
        found = difference_between(network.model, again)
        return {**told, "differences": {"prefill": found.prefill, "decode": found.decode}}
