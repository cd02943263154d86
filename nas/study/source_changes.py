"""What differs between two versions of a source, by the names of what they define; comments do not count.

changed({"mine.py": before}, {"mine.py": after})        # ["EMA of mine.py"]
"""

from __future__ import annotations

import ast
from collections.abc import Mapping

DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def changed(before: Mapping[str, bytes], after: Mapping[str, bytes]) -> list[str]:
    """The definitions that differ, with their files; a file whose other lines differ, by its name."""
    words = []
    for name in sorted({*before, *after}):
        if name not in before or name not in after:
            words.append(name)
        elif before[name] != after[name]:
            old, new = _definitions(before[name]), _definitions(after[name])
            parts = [part for part in {**old, **new} if old.get(part) != new.get(part)]
            words += [f"{part} of {name}" if part else name for part in sorted(parts, key=bool, reverse=True)]
    return words


def _definitions(content: bytes) -> dict[str, str]:
    """What a file says, by the name that a class, function or assignment gives it; the rest under ''."""
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError):
        return {"": repr(content)}
    for node in ast.walk(tree):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
    said: dict[str, str] = {}
    for statement in tree.body:
        name = _name_of(statement)
        said[name] = said.get(name, "") + ast.dump(statement)
    return said


def _name_of(statement: ast.stmt) -> str:
    if isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return statement.name
    targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
    return targets[0].id if len(targets) == 1 and isinstance(targets[0], ast.Name) else ""
