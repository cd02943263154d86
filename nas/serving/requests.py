"""What is asked of the engine and what comes back: requests, how they are sampled, pieces of text.

A request ends with a piece that has a `finish`, whatever happens to it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from foundation.errors import NasError, SettingError
from foundation.settings import SEEDS, Settings, setting
from nas.serving.noise import Noise

MOST_LOGPROBS = 20

Finish: TypeAlias = Literal["stop", "length", "cancelled", "error"]
"""Why a request ended: an end token or a stop string, its number of tokens, its client, or a fault."""


class QueueFull(NasError):
    """More requests wait than may: try again later."""


class Closing(NasError):
    """The server takes no more requests, because it stops."""


class TooLong(SettingError):
    """A prompt and its new tokens are more than the context, or than the memory for states can hold."""


@dataclass(frozen=True, kw_only=True)
class Sampling(Settings):
    """How a prompt is continued. Equal seeds give equal draws, whatever else is in the batch."""

    max_tokens: int = setting(16, help="Most tokens to write.", least=1, most=10**6)
    temperature: float = setting(1.0, help="0 takes the likeliest token.", least=0, most=100)
    top_p: float = setting(
        1.0, help="Draw from the likeliest tokens that have this probability together.", above=0, most=1
    )
    seed: int | None = setting(None, help="Random seed of the draws.", least=0, most=SEEDS)
    logprobs: int | None = setting(
        None, help="Tell the probabilities of so many likely tokens.", least=0, most=MOST_LOGPROBS
    )
    stop: tuple[str, ...] = setting((), help="A text that ends the answer.", repeated=True)


@dataclass(frozen=True)
class Chosen:
    """A token with its log-probability, and those of the likeliest tokens, where they were asked for."""

    token: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Piece:
    """What one iteration adds to a request: tokens, the text that is sure by now, and whether this is all."""

    chosen: tuple[Chosen, ...] = ()
    text: str = ""
    finish: Finish | None = None
    error: str = ""


@dataclass(eq=False)
class Request:
    """A prompt to continue; every piece of the answer is given to `tell`, in the engine's thread."""

    prompt: Sequence[int]
    sampling: Sampling
    tell: Callable[[Piece], None]
    adapter: str | None = None
    arrived: float = field(default_factory=time.monotonic)
    generated: list[int] = field(default_factory=list)
    cancelled: bool = False
    first_token: float | None = None
    noise: Noise = field(init=False)

    def __post_init__(self) -> None:
        self.noise = Noise(self.sampling.seed)

    @property
    def total(self) -> int:
        """The most tokens that are ever read for it: the last new one is not."""
        return len(self.prompt) + self.sampling.max_tokens - 1
