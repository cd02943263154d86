"""Copies of this project's own source: the modules that a network needs, in one folder without the rest.

    texts = source_of("search_spaces.checkpoints.modeling_nas", spec)      # {"modeling_nas.py": ..., ...}

Every module is there whole and as it is, but for its imports, which become relative:

    from search_spaces.network.model import Model   ->   from .search_spaces_network_model import Model

Registries hold what is in the copy, since there are no folders to fill them from.
"""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

from foundation.errors import SettingError
from search_spaces.network.decoder import Decoder

PACKAGES = ("foundation", "search_spaces")
"""What is copied: neither imports another package of this project."""

ABOUT = "# {module} of nas, copied by `nas export`. SPDX-License-Identifier: Apache-2.0\n"


def source_of(first: str, spec: Decoder) -> dict[str, str]:
    """The text of every file that module `first` and the parts of a network need, by its name.

    Raises:
        SettingError: a part is not of this project.
    """
    kinds = sorted({(kind.__module__, kind.__name__) for kind in _kinds(spec)})
    needed = [first, *(module for module, _ in kinds)]
    texts: dict[str, str] = {}
    as_a_whole = set[str]()
    while needed:
        module = needed.pop()
        name = "modeling_nas" if module == first else _flat(module)
        if f"{name}.py" in texts:
            continue
        text, imported, whole = _relative(module)
        texts[f"{name}.py"] = ABOUT.format(module=module) + text
        needed += imported
        as_a_whole |= whole
    # transformers copies what a file names in `from .MODULE import`, and registries need the parts
    parts = [f"from .{_flat(module)} import {name}" for module, name in kinds]
    modules = [f"from .{_flat(module)} import __doc__" for module in sorted(as_a_whole)]
    texts["modeling_nas.py"] += "\n\n" + "".join(f"{line}  # noqa\n" for line in (*parts, *modules))
    return texts


def not_of_this_project(spec: Decoder) -> str:
    """The name of a part of a network that somebody else wrote; empty where there is none."""
    return next((kind.__name__ for kind in _kinds(spec) if not _is_ours(kind.__module__)), "")


def _kinds(node: Any) -> Iterator[type]:
    """The dataclasses of a configuration."""
    if isinstance(node, tuple):
        for part in node:
            yield from _kinds(part)
    elif is_dataclass(node) and not isinstance(node, type):
        yield type(node)
        for field in fields(node):
            yield from _kinds(getattr(node, field.name))


@cache
def _relative(module: str) -> tuple[str, frozenset[str], frozenset[str]]:
    """A module's text with relative imports, the modules that they name, and those imported as a whole."""
    text = _path(module).read_text()
    lines = text.splitlines(keepends=True)
    imported, whole = set[str](), set[str]()
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.ImportFrom) or not _is_ours(node.module or ""):
            continue
        line, package = node.lineno - 1, str(node.module)
        modules = {f"{package}.{alias.name}": alias for alias in node.names}
        if not any(map(_exists, modules)):
            head, relative = f"from {package} import", f"from .{_flat(package)} import"
            assert head in lines[line], f"{module}:{node.lineno} imports in another form"
            lines[line] = lines[line].replace(head, relative, 1)
            imported.add(package)
            continue
        indent = lines[line][: node.col_offset]
        lines[line : node.end_lineno] = [""] * (int(node.end_lineno or 0) - line)
        lines[line] = "".join(
            f"{indent}from . import {_flat(name)} as {alias.asname or alias.name}\n"
            for name, alias in modules.items()
        )
        imported |= set(modules)
        whole |= set(modules)
    text = re.sub(r', folder="[\w.]+"', "", "".join(lines))
    return text, frozenset(imported), frozenset(whole)


def _is_ours(module: str) -> bool:
    return module.split(".")[0] in PACKAGES


def _exists(module: str) -> bool:
    path = _root().joinpath(*module.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def _path(module: str) -> Path:
    path = _root().joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@cache
def _root() -> Path:
    """Where the packages lie."""
    found = importlib.util.find_spec(PACKAGES[0])
    if found is None or found.origin is None:
        raise SettingError("the source of this project is not here as files, so it cannot be copied")
    return Path(found.origin).parent.parent


def _flat(module: str) -> str:
    return module.replace(".", "_")
