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
    passes: int = 0
    """Passes of the network over what a draft proposed for one row."""

    passed_tokens: int = 0
    """Tokens that those have written."""

    proposed: int = 0
    accepted: int = 0
    preempted: int = 0
    refused: int = 0
    finished: Counter[str] = field(default_factory=Counter)
    first_tokens: deque[float] = field(default_factory=lambda: deque(maxlen=10**5))
    token_times: deque[float] = field(default_factory=lambda: deque(maxlen=10**5))

    @property
    def acceptance(self) -> float:
        """The share of proposed tokens that the network accepted."""
        return self.accepted / max(1, self.proposed)

    @property
    def tokens_per_pass(self) -> float:
        """Tokens that a pass over proposed tokens has written on average."""
        return self.passed_tokens / max(1, self.passes)
