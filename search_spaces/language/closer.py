"""An open tree compiled into a function: given who answers, the closed tree.

Parts that ask nothing are found once, and used as they are in every architecture.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, is_dataclass
from typing import Any, TypeAlias

from foundation.errors import IllegalArchitecture
from search_spaces.language.choices import OneOf, field_names, join
from search_spaces.language.genotype import Label
from search_spaces.language.objections import IMPOSSIBLE

Answer: TypeAlias = Callable[[str, tuple[Label, ...]], Label]
"""Given a path and the labels of its options, the label that is chosen."""

Closer: TypeAlias = Callable[[Answer], Any]


class Unbuildable(IllegalArchitecture):
    """A dataclass refused the values that were chosen for it."""


def closer(root: Any) -> Closer:
    """`root` as a function of who answers its questions, outermost first."""
    compiled = _compile(root, "")
    if isinstance(compiled, _Closed):
        return lambda ask: compiled.value
    run: Closer = compiled
    return run


@dataclass(frozen=True)
class _Closed:
    """A part of the tree without open values, used as it is."""

    value: Any


def _compile(node: Any, path: str) -> Any:
    """`node` as a function of who answers; parts that ask nothing come back as `_Closed`."""
    if isinstance(node, OneOf):
        return _compile_choice(node, node.own_path(path))
    if isinstance(node, tuple):
        parts = [_compile(part, join(path, i)) for i, part in enumerate(node)]
        if all(isinstance(part, _Closed) for part in parts):
            return _Closed(node)
        return lambda ask: tuple(p.value if isinstance(p, _Closed) else p(ask) for p in parts)
    if is_dataclass(node):
        return _compile_dataclass(node, path)
    return _Closed(node)


def _compile_choice(choice: OneOf, path: str) -> Closer:
    labels = choice.labels
    branches = {
        (type(label), label): _compile(choice.labelled(label), choice.inner_path(path, label))
        for label in labels
    }

    def run(ask: Answer) -> Any:
        label = ask(path, labels)
        branch = branches.get((type(label), label))
        if branch is None:
            raise IllegalArchitecture(f"{path}: {label!r} is not among {labels}")
        return branch.value if isinstance(branch, _Closed) else branch(ask)

    return run


def _compile_dataclass(node: Any, path: str) -> Any:
    kind = type(node)
    parts = {name: _compile(getattr(node, name), join(path, name)) for name in field_names(kind)}
    fixed = {name: part.value for name, part in parts.items() if isinstance(part, _Closed)}
    asking = [(name, part) for name, part in parts.items() if not isinstance(part, _Closed)]
    if not asking:
        return _Closed(node)

    def run(ask: Answer) -> Any:
        asked = {name: part(ask) for name, part in asking}
        try:
            return kind(**fixed, **asked)
        except (IllegalArchitecture, *IMPOSSIBLE) as error:
            said = f"{type(error).__name__}: " if isinstance(error, IMPOSSIBLE) else ""
            raise Unbuildable(f"{kind.__name__}: {said}{error}") from error

    return run
