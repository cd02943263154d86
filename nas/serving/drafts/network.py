"""Network: a smaller exported network of the same tokens.

Leviathan et al. 2023, arXiv:2211.17192; Chen et al. 2023, arXiv:2302.01318. A subnet of the supernet that the
network was found in is one, too: export it from the same study.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from foundation.errors import SettingError
from foundation.settings import setting
from nas.serving.drafts.base import Begin, Draft, NetworkProposer, drafts
from nas.study.model_code import load
from search_spaces.network.model import Model


@drafts.add
@dataclass(frozen=True, kw_only=True)
class SmallerNetwork(Draft):
    """What another exported network would write."""

    name: ClassVar[str] = "network"

    folder: str = setting("", help="The folder of the exported network that proposes.")

    def begun(self, network: Model) -> Begin:
        """Its weights are read once."""
        return partial(NetworkProposer, self.model(network))

    def model(self, network: Model) -> Model:
        """The network of the folder, on the device and in the numbers of the other one.

        Raises:
            SettingError: there is none, it holds code of its own, or its tokens are others.
        """
        if not self.folder:
            raise SettingError("draft network: folder=DIR is missing, an exported network of the same tokens")
        model = load(self.folder)
        require_same_tokens(self.folder, model, network)
        return model.to(network.embedding.device, network.embedding.dtype)


def require_same_tokens(name: str, draft: Model, network: Model) -> None:
    """Raise `SettingError` where two networks cannot have the same tokenizer."""
    if draft.spec.vocab != network.spec.vocab:
        raise SettingError(
            f"draft {name} has {draft.spec.vocab:,} tokens and the network {network.spec.vocab:,}:"
            " a draft has the same tokenizer"
        )
