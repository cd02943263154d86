"""Optional libraries: what needs one says, where it is missing, which extra of this project installs it."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from foundation.errors import SettingError


def missing_extra(extra: str, *modules: str) -> str:
    """What to install where one of these modules is not there; empty where all are. Nothing is imported."""
    missing = [module for module in modules if not _is_there(module)]
    return f"needs {', '.join(missing)}: pip install 'nas[{extra}]'" if missing else ""


def require_extra(what: str, extra: str, *modules: str) -> None:
    """Make sure that optional libraries are installed; `what` needs them.

    Raises:
        SettingError: one is not; the extra that installs it is named.
    """
    if lacking := missing_extra(extra, *modules):
        raise SettingError(f"{what} {lacking}")


def _is_there(module: str) -> bool:
    # what was imported is there also where nothing says from where; None stands for what must not be
    return sys.modules[module] is not None if module in sys.modules else find_spec(module) is not None


def installed_version(package: str) -> str:
    """The version of a package; empty where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
