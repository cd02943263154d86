"""How many architectures an open tree describes, and each of them once.

A shared choice is asked once, so a count depends on the answers to the shared choices before it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, TypeAlias

from search_spaces.language.choices import OneOf
from search_spaces.language.closer import Closer
from search_spaces.language.genotype import Label
from search_spaces.language.walk import children

Shared: TypeAlias = "frozenset[tuple[str, Label]]"
"""Answers to shared choices."""


def count_closings(root: Any) -> int:
    """How many ways `root` closes."""
    return sum(_count(root, frozenset(), {}).values())


def _count(node: Any, shared: Shared, memo: dict[Any, dict[Shared, int]]) -> dict[Shared, int]:
    """How many ways `node` closes, by the answers to shared choices after it, given those before."""
    key = (id(node), shared)
    if key not in memo:
        memo[key] = _count_afresh(node, shared, memo)
    return memo[key]


def _count_afresh(node: Any, shared: Shared, memo: dict[Any, dict[Shared, int]]) -> dict[Shared, int]:
    if isinstance(node, OneOf):
        if node.name and any(name == node.name for name, _ in shared):
            return {shared: 1}  # asked before, with all its inner questions
        ways: Counter[Shared] = Counter()
        for label in node.labels:
            chosen = shared | {(node.name, label)} if node.name else shared
            ways.update(_count(node.labelled(label), chosen, memo))
        return ways
    ways = Counter({shared: 1})
    for _, part in children(node):
        after: Counter[Shared] = Counter()
        for before, number in ways.items():
            for then, more in _count(part, before, memo).items():
                after[then] += number * more
        ways = after
    return ways


class _Unanswered(Exception):
    """Raised at the first question that a prefix of answers leaves open."""

    def __init__(self, path: str, labels: tuple[Label, ...]) -> None:
        super().__init__(path)
        self.path, self.labels = path, labels


def enumerate_answers(close: Closer) -> Iterator[dict[str, Label]]:
    """The answers that lead to each closing of a tree, in a fixed order."""
    waiting: list[dict[str, Label]] = [{}]
    while waiting:
        answers = waiting.pop()

        def answer(path: str, labels: tuple[Label, ...], given: dict[str, Label] = answers) -> Label:
            if path in given:
                return given[path]
            raise _Unanswered(path, labels)

        try:
            close(answer)
        except _Unanswered as question:
            waiting.extend({**answers, question.path: label} for label in reversed(question.labels))
        else:
            yield answers
