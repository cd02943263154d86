"""The definitions of a script: what its classes and functions are made of, without what else it does.

    definitions(script, ["Mine"])       # the class, its helpers and imports; not `study = nas.search(...)`

A script that searches cannot be run again only because its block is wanted. Kept are the statements that
bind the wanted names, those that bind or change what these use, and what is registered
(`objectives.add(...)`); what stands under `if __name__ == ...` is not. Each stays on its line, so that errors
name lines of the script.
"""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Collection, Iterable, Iterator

from nas.study.source_files import is_of_project

SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
CLOSED = (*SCOPES, ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
CHANGED = (ast.Attribute, ast.Subscript)


def definitions(content: bytes, names: Iterable[str]) -> bytes:
    """The source of these names of a module, and of all that they use; all of it where it is no Python."""
    try:
        text = _text(content)
        statements = ast.parse(text).body
    except (SyntaxError, ValueError):  # it fails where it is run, if it is
        return content
    return _written(text, _needed(statements, names))


def bound_names(content: bytes) -> set[str]:
    """The names that the top level of a module binds."""
    try:
        return {name for statement in ast.parse(content).body for name in _bound(statement)}
    except (SyntaxError, ValueError):
        return set()


def _needed(statements: Collection[ast.stmt], names: Iterable[str]) -> list[ast.stmt]:
    """In their order, the statements that these names need."""
    candidates = [statement for statement in statements if not _is_of_main(statement)]
    registries = {name for each in candidates for name in _from_project(each)}
    kept = [each for each in candidates if _is_always_needed(each, registries)]
    needed = {*names, *(name for each in kept for name in _used(each))}
    while True:
        own = {name for each in kept if not _is_import(each) for name in _bound(each)} & needed
        more = [each for each in candidates if each not in kept and _serves(each, needed, own)]
        if not more:
            return [each for each in candidates if each in kept]
        kept += more
        needed |= {name for each in more for name in _used(each)}


def _is_of_main(statement: ast.stmt) -> bool:
    """Whether this depends on whether the module is run as the program."""
    if not isinstance(statement, ast.If):
        return False
    return any(isinstance(node, ast.Name) and node.id == "__name__" for node in ast.walk(statement.test))


def _is_always_needed(statement: ast.stmt, registries: set[str]) -> bool:
    """Whether it decides how the rest is read, or registers something: these need no name."""
    if isinstance(statement, ast.ImportFrom):
        return statement.module == "__future__" or any(alias.name == "*" for alias in statement.names)
    called = _called(statement)
    return called is not None and called.attr == "add" and _root(called) in registries


def _serves(statement: ast.stmt, needed: set[str], own: set[str]) -> bool:
    """Whether it binds a name that is needed, or changes a thing of the module's own that is."""
    return not needed.isdisjoint(_bound(statement)) or not own.isdisjoint(_changed(statement))


def _is_import(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Import | ast.ImportFrom)


def _from_project(statement: ast.stmt) -> list[str]:
    """The names that a statement imports from this project: registries are among them."""
    if not isinstance(statement, ast.ImportFrom) or statement.level or not statement.module:
        return []
    return _bound_by_import(statement) if is_of_project(statement.module) else []


def _bound(node: ast.AST) -> Iterator[str]:
    """The names that a statement binds in its module."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        yield from _bound_by_import(node)
    elif isinstance(node, SCOPES):
        yield node.name
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id
    elif not isinstance(node, CLOSED):
        if isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
            yield node.name
        for child in ast.iter_child_nodes(node):
            yield from _bound(child)


def _bound_by_import(node: ast.Import | ast.ImportFrom) -> list[str]:
    return [alias.asname or alias.name.partition(".")[0] for alias in node.names]


def _changed(node: ast.AST) -> Iterator[str]:
    """The names of things that a statement changes: `X.a = ...`, `X[0] = ...`, `X.append(...)`."""
    if isinstance(node, SCOPES):
        return
    if isinstance(node, CHANGED) and isinstance(node.ctx, ast.Store | ast.Del):
        yield _root(node)
    called = _called(node)
    if called is not None:
        yield _root(called)
    for child in ast.iter_child_nodes(node):
        yield from _changed(child)


def _called(node: ast.AST) -> ast.Attribute | None:
    """The method that a statement calls for its effect alone."""
    call = node.value if isinstance(node, ast.Expr) else None
    return call.func if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) else None


def _root(node: ast.AST) -> str:
    while isinstance(node, CHANGED):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def _used(statement: ast.stmt) -> set[str]:
    """All names in a statement, also those inside of its functions."""
    return {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}


def _text(content: bytes) -> str:
    encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
    return io.TextIOWrapper(io.BytesIO(content), encoding).read()  # with all ends of lines as "\n"


def _written(text: str, statements: Iterable[ast.stmt]) -> bytes:
    """These statements alone, on their lines."""
    lines = text.encode().split(b"\n")
    written = [b""] * len(lines)
    for statement in statements:
        first, last = statement.lineno - 1, (statement.end_lineno or statement.lineno) - 1
        start, end = statement.col_offset, statement.end_col_offset
        for decorator in getattr(statement, "decorator_list", []):
            first, start = min(first, decorator.lineno - 1), 0
        part = [*lines[first:last], lines[last][:end]]
        part[0] = part[0][start:]
        joint = b"; " if written[first] else b""
        for at, line in enumerate(part, first):
            written[at] += (joint if at == first else b"") + line
    return b"\n".join(written).rstrip() + b"\n"
