"""A user's code on its way to other machines: what is sent along, and what must be installed there.

What a space's file defines, and modules beside it that it imports, are sent with the work, by their source
(`nas.study.user_files`). Packages of a user's project that lie elsewhere and are not installed, as on
`PYTHONPATH` or by `pip install --editable`, are sent to every node once, by Ray (`runtime_env`).
"""

from __future__ import annotations

import re
import site
import sys
import sysconfig
from pathlib import Path
from types import ModuleType
from typing import Any

from nas.study.user_files import USER_FILE, user_modules

OURS = ("foundation", "search_spaces", "evaluators", "hw_profiles", "nas", "dashboards")
"""What must be installed on every node, in the same version."""

NOT_CODE = ["*.db", "*.db-*", "*.safetensors", "*.pt", "*.bin", "*.npy", "*.csv", "__pycache__"]
"""Files of a project that are not sent."""

_MISSING = re.compile(r"No module named '?([\w.]+)")


def project_code() -> dict[str, str]:
    """The packages and modules that users' files import, and other machines lack: their paths, by name.

    Those that lie beside a user's file are not among them: they travel with the work.
    """
    beside = {module.__name__.partition(".")[0] for module in user_modules()}
    found: dict[str, str] = {}
    waiting = [*user_modules(), sys.modules["__main__"]]
    while waiting:
        for top in _imported_by(waiting.pop()) - {*OURS, *beside, *found}:
            if path := _path_of(top):
                found[top] = path
                waiting += [m for name, m in list(sys.modules.items()) if name.partition(".")[0] == top]
    return found


def _imported_by(module: ModuleType) -> set[str]:
    """The packages from which something is a value of a module."""
    names = (
        value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
        for value in list(vars(module).values())
    )
    return {name.partition(".")[0] for name in names if isinstance(name, str)}


def _path_of(top: str) -> str:
    """Where a package or module lies that is not installed; empty for all others."""
    module = sys.modules.get(top)
    places = list(getattr(module, "__path__", ())) or [getattr(module, "__file__", None)]
    if top.startswith((USER_FILE, "__")) or len(places) != 1 or not isinstance(places[0], str):
        return ""
    path = Path(places[0]).resolve()
    is_code = path.is_dir() or (path.suffix == ".py" and path.is_file())
    return str(path) if is_code and not any(map(path.is_relative_to, _installed())) else ""


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
