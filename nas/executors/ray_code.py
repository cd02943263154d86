"""A user's code on its way to other machines: what is sent along, and what must be installed there.

What a space's file defines, and modules beside it that it imports, are sent with the work, by their source
(`nas.study.user_files`). Packages of a user's project that lie elsewhere and are not installed, as on
`PYTHONPATH` or by `pip install --editable`, are sent to every node once, by Ray (`runtime_env`).
"""

from __future__ import annotations

import ast
import importlib.util
import re
import site
import sys
import sysconfig
from pathlib import Path
from typing import Any

from nas.study.user_files import user_modules

OURS = ("foundation", "search_spaces", "evaluators", "hw_profiles", "nas", "dashboards")
"""What must be installed on every node, in the same version."""

NOT_CODE = ["*.db", "*.db-*", "*.safetensors", "*.pt", "*.bin", "*.npy", "*.csv", "__pycache__"]
"""Files of a project that are not sent."""

_MISSING = re.compile(r"No module named '?([\w.]+)")


def project_code() -> dict[str, str]:
    """The packages and modules that users' files import, and other machines lack: their paths, by name.

    Those that lie beside a user's file are not among them: they travel with the work.
    """
    users = [*user_modules(), sys.modules["__main__"]]
    beside = {module.__name__.partition(".")[0] for module in user_modules()}
    found: dict[str, str] = {}
    waiting = [Path(file) for module in users if (file := getattr(module, "__file__", None))]
    while waiting:
        for top in _imported_by(waiting.pop()) - {*OURS, *beside, *found}:
            if path := _path_of(top):
                found[top] = str(path)
                waiting += [path] if path.is_file() else path.rglob("*.py")
    return found


def _imported_by(file: Path) -> set[str]:
    """The packages that a Python file imports anywhere in it."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):  # a notebook's cell, a program that is no Python
        return set()
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module)
    return {name.partition(".")[0] for name in names}


def _path_of(top: str) -> Path | None:
    """Where a package or module lies that can be imported here, and is not installed; else None."""
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):  # one that has no spec, as `__main__`
        return None
    if spec is None or spec.origin is None or not spec.has_location:
        return None
    file = Path(spec.origin).resolve()
    path = file.parent if file.name == "__init__.py" else file
    is_code = path.is_dir() or path.suffix == ".py"
    return path if is_code and not any(map(path.is_relative_to, _installed())) else None


def runtime_env() -> dict[str, Any] | None:
    """What Ray sends to every node before the first task; None where nothing is to be sent."""
    code = project_code()
    return {"py_modules": list(code.values()), "excludes": NOT_CODE} if code else None


def advice(why: str) -> str:
    """The cause of a failed start; where a module is missing there, with how to send it."""
    missing = _MISSING.search(why)
    if missing is None:
        return why
    top = missing[1].partition(".")[0]
    if top in OURS:
        return f"{why}: install nas there, in the version of this machine"
    return (
        f"{why}: install {top} on every node, or put it beside the space's file and import it there, at the"
        " top: what lies there is sent along"
    )


def _installed() -> set[Path]:
    """The folders of Python's own library and of installed packages."""
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    folders = [sysconfig.get_path(name) for name in names] + [*site.getsitepackages()]
    if site.ENABLE_USER_SITE:
        folders.append(site.getusersitepackages())
    return {Path(folder).resolve() for folder in folders}
