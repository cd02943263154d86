"""Induction heads: a mark came once; when it comes again, say the token that followed it.

    read      a c b > d a b c >
    answer                    d

It asks for one look back, at a place that is given by what stands there.

After Fu et al. 2022, arXiv:2212.14052, section 3.1, and Gu & Dao 2023, arXiv:2312.00752, section 4.1; what
transformers do in context is traced to it by Olsson et al. 2022, arXiv:2209.11895.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from evaluators.tasks.base import IGNORED, tasks
from evaluators.tasks.synthetic import MOST_TOKENS, Read, Synthetic
from foundation.settings import MANY, setting

MARK = 0


@tasks.add
@dataclass(frozen=True, kw_only=True)
class InductionHeads(Synthetic):
    """Random tokens, with a mark among them and another one at the end."""

    name: ClassVar[str] = "induction_heads"
    score_name: ClassVar[str] = "induction_error"
    score_help: ClassVar[str] = "wrong tokens after a mark that came before"

    length: int = setting(32, help="Tokens of a sequence.", least=3, most=MANY)
    tokens: int = setting(16, help="The mark and what stands around it.", least=3, most=MOST_TOKENS)

    @property
    def vocab(self) -> int:
        """The mark and all others."""
        return self.tokens

    @property
    def floor(self) -> float:
        """Any token but the mark."""
        return 1 - 1 / (self.tokens - 1)

    def sequence(self, dice: np.random.Generator) -> Read:
        """One answer, at the end."""
        tokens = dice.integers(1, self.tokens, self.length).tolist()
        place = int(dice.integers(self.length - 2))
        tokens[place] = tokens[-1] = MARK
        return tokens, [IGNORED] * (self.length - 1) + [tokens[place + 1]]

    def solve(self, tokens: Sequence[int]) -> list[int]:
        """Look for the first mark."""
        return [IGNORED] * (len(tokens) - 1) + [tokens[tokens.index(MARK) + 1]]
