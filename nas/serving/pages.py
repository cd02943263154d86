"""Pages of states that grow with their text: PagedAttention's block tables (Kwon et al. 2023,
arXiv:2309.06180, section 4), without its kernel.

A page holds `size` tokens of one row. All states with the same limit (a window's ring, or none) share a
table: the page of a token has the same number in each of them.
"""

from __future__ import annotations


class Pages:
    """`count` pages of `size` tokens, and which of them each of `rows` slots holds."""

    def __init__(self, count: int, size: int, rows: int, limit: int | None = None) -> None:
        self.count, self.size, self.limit = count, size, limit
        self.free = list(range(count))[::-1]
        self.tables: list[list[int]] = [[] for _ in range(rows)]

    def needed(self, tokens: int) -> int:
        """Pages of a row that has read so many tokens."""
        held = tokens if self.limit is None else min(tokens, self.limit)
        return -(-held // self.size)

    def missing(self, row: int, tokens: int) -> int:
        """Pages that a row lacks to hold so many tokens."""
        return max(0, self.needed(tokens) - len(self.tables[row]))

    def grow(self, row: int, tokens: int) -> None:
        """Give a row the pages for so many tokens; there are as many (`missing`, `free`)."""
        for _ in range(self.missing(row, tokens)):
            self.tables[row].append(self.free.pop())

    def release(self, row: int) -> None:
        """Take all pages of a row back."""
        self.free.extend(reversed(self.tables[row]))
        self.tables[row] = []
