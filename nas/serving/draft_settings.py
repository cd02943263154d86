"""What drafts are tried on, apart from the trying, so that a command line need not load it."""

from __future__ import annotations

from dataclasses import dataclass

from foundation.settings import MANY, Settings, setting


@dataclass(frozen=True, kw_only=True)
class DraftSettings(Settings):
    """What drafts are tried on."""

    prompts: int = setting(4, help="Texts that are gone on with.", least=1, most=10**4)
    prompt_tokens: int = setting(64, help="Tokens of a prompt.", least=1, most=10**6)
    new_tokens: int = setting(64, help="Tokens that are written to each.", least=2, most=10**6)
    temperature: float = setting(0.0, help="0 takes the likeliest token.", least=0, most=100)
    most: int = setting(8, help="Tokens that are proposed at most.", least=1, most=32)
    memory: float | None = setting(
        None, help="Weights that a draft may add.", least=0, most=MANY, unit="MiB", shown="any"
    )
