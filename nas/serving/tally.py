"""What an engine has counted since it began."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field


@dataclass
class Tally:
    """Counts of tokens, steps and requests; times in seconds, which whoever reports them takes out."""

    prompt_tokens: int = 0
    prefix_tokens: int = 0
    new_tokens: int = 0
    steps: int = 0
    stepped_rows: int = 0
    preempted: int = 0
    refused: int = 0
    finished: Counter[str] = field(default_factory=Counter)
    first_tokens: deque[float] = field(default_factory=lambda: deque(maxlen=10**5))
    token_times: deque[float] = field(default_factory=lambda: deque(maxlen=10**5))
