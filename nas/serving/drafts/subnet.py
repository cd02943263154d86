"""Subnet: a smaller network of a study, such as a subnet of the supernet that the network was found in."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from foundation.errors import SettingError
from foundation.settings import setting
from nas.default_paths import DEFAULT_STORE
from nas.serving.drafts.base import Begin, Draft, NetworkProposer, drafts
from nas.serving.drafts.network import require_same_tokens
from nas.training.start import start_of
from search_spaces.network.model import Model


@drafts.add
@dataclass(frozen=True, kw_only=True)
class Subnet(Draft):
    """What a network of a study would write, with the best weights that the study has of it."""

    name: ClassVar[str] = "subnet"

    study: str = setting("", help="The study.")
    trial: str = setting("", help="A trial's number, the beginning of its digest, or `best`.")
    store: str = setting(DEFAULT_STORE, help="Where the study is kept.")

    def begun(self, network: Model) -> Begin:
        """Its weights are read once."""
        return partial(NetworkProposer, self.model(network))

    def model(self, network: Model) -> Model:
        """The network of the trial, on the device and in the numbers of the other one.

        Raises:
            SettingError: there is none, or its tokens are others.
        """
        if not (self.study and self.trial):
            raise SettingError("draft subnet: study=NAME and trial=NUMBER say which network proposes")
        model = start_of(self.study, self.trial, store=self.store).model
        require_same_tokens(f"{self.study}/{self.trial}", model, network)
        return model.to(network.embedding.device, network.embedding.dtype).eval()
