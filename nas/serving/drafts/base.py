"""What a draft is: settings, made ready once for a network, and a proposer for each text.

A draft proposes the tokens that it thinks the network will draw, with the same noise as the network
(`nas.serving.noise`), so that what agrees is right, and nothing else has to be accepted or corrected.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, TypeAlias

from torch import Tensor

from foundation.components import Part
from foundation.registry import Registry
from foundation.settings import describe, setting
from nas.serving.rewinding import Rewinding
from search_spaces.network.model import Model

MOST_TOKENS = 32

drafts: Registry[type[Draft]] = Registry("draft", folder=__package__)

Pick: TypeAlias = Callable[[Tensor, int], int]
"""The token that logits [V] give, and how many draws ahead of the next one it is."""


class Proposer(Protocol):
    """Proposes for one text."""

    def propose(self, text: Sequence[int], count: int, pick: Pick) -> list[int]:
        """At most `count` tokens that may follow; every text goes on from the one before."""


Begin: TypeAlias = Callable[[], Proposer]


@dataclass(frozen=True, kw_only=True)
class Draft(Part):
    """What proposes tokens for a network to verify."""

    registry: ClassVar[Registry[type[Draft]]] = drafts

    tokens: int = setting(
        4, help="Tokens that are proposed for each pass of the network.", least=1, most=MOST_TOKENS
    )

    @property
    def line(self) -> str:
        """As it is written: its name, and the settings that are not usual."""
        plain = self.to_plain()
        unusual = [d.name for d in describe(type(self)) if getattr(self, d.name) != d.default]
        return ",".join([self.name, *(f"{name}={plain[name]}" for name in unusual)])

    def begun(self, network: Model) -> Begin:
        """What begins a proposer for a text of this network.

        Raises:
            SettingError: this draft is none for the network.
        """
        raise NotImplementedError

    def model(self, network: Model) -> Model | None:
        """The network that proposes, where one does."""
        return None

    @classmethod
    def choices(cls, network: Model) -> Sequence[Draft]:
        """Drafts of this kind that are worth a try for a network, without asking for anything."""
        return ()


@dataclass
class NetworkProposer:
    """Proposes what another network of the same tokens would draw."""

    model: Model
    text: Rewinding | None = None

    def propose(self, text: Sequence[int], count: int, pick: Pick) -> list[int]:
        """As `Proposer.propose`: what it has not read yet in one pass, then step by step."""
        if self.text is None:
            self.text = Rewinding(self.model, self.model.init_state(1, len(text) + count))
        self.text.align(text)
        logits = self.text.read_last(text[self.text.position :])
        self.text.mark()
        proposed = [pick(logits, 0)]
        while len(proposed) < count:
            proposed.append(pick(self.text.step(proposed[-1]), len(proposed)))
        return proposed
