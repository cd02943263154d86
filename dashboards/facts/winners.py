"""Fronts of one space in different runtimes: which of their networks win in both.

Milliseconds of two runtimes are one quantity, so their fronts may be laid over each other; which networks win
is a question for each runtime by itself.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from itertools import combinations

from foundation.text import count


def shared_winners(fronts: Mapping[str, Collection[str]]) -> Iterator[str]:
    """A sentence for each pair of studies, from the digests on the front of each."""
    for (first, ours), (second, theirs) in combinations(fronts.items(), 2):
        shared = len(set(ours) & set(theirs))
        yield (
            f"Of {count(len(ours), 'network')} on the front of {first} and {len(theirs)} on that of {second},"
            f" {shared} {'is' if shared == 1 else 'are'} on both."
        )
