"""Any sampler of OptunaHub (extra `optunahub`) as a strategy, by the name of its package in the registry.

    --strategy optunahub:samplers/auto_sampler
    --strategy optunahub:samplers/auto_sampler@COMMIT:AutoSampler
    --strategy optunahub:./my_registry/package/samplers/mine

The package is fetched over the network, from github.com/optuna/optunahub-registry, unless it was before or
lies in a folder; it is Python of others and needs consent (`nas.strategies.foreign`). Its settings are the
arguments of the sampler's constructor. One sampler proposes during a whole search, since it may remember what
nobody else sees; so a search that was stopped may go on otherwise than it would have. It then hears all
earlier trials.
"""

from __future__ import annotations

import inspect
import re
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from optuna.samplers import BaseSampler

from foundation.errors import EvaluationFailed, SettingError, UnknownName
from foundation.registry import nearest
from foundation.settings import Settings
from nas.strategies.base import Strategy, strategies
from nas.strategies.foreign import FOREIGN, require_consent
from nas.strategies.optuna_sampler import OptunaStrategy, strategy_of
from nas.strategies.sampler_settings import quiet
from nas.study.own_code import own_code

EXTRA = "pip install 'nas[optunahub]'"
FORM = re.compile(r"(?P<package>[^@:]+)(?:@(?P<ref>[\w./-]+))?(?::(?P<kind>\w+))?")


class KeptSampler(OptunaStrategy):
    """Proposes by one sampler, which hears of every trial."""

    hears_all = True

    @classmethod
    def remark(cls, settings: Settings, trials: int) -> str:
        """That what the sampler remembers ends with the process."""
        return f"{cls.name} may go on otherwise after a stop: one sampler remembers the whole search"

    def sampler(self, number: int) -> BaseSampler:
        """The one sampler."""
        if self._kept is None:
            self._kept = super().sampler(0)
        return self._kept

    _kept: BaseSampler | None = None


@strategies.add_family("optunahub")
def hub_strategy(member: str) -> type[Strategy]:
    """The strategy `optunahub:PACKAGE[@REF][:CLASS]`.

    Raises:
        ConsentNeeded: nobody has agreed to run it.
        UnknownName: the registry has no such package, or the package no such sampler.
        SettingError: it is not of that form, or cannot be imported.
    """
    require_consent(f"{FOREIGN}{member}", False)
    return _loaded(member)


@cache
def _loaded(member: str) -> type[Strategy]:
    name = f"{FOREIGN}{member}"
    match = FORM.fullmatch(member)
    if match is None:
        raise SettingError(f"strategy {name}: write it like {FOREIGN}samplers/auto_sampler[@REF][:CLASS]")
    try:
        with quiet(), own_code(f"the package {match['package']}", "optunahub"):
            module = _module(match["package"], match["ref"])
    except EvaluationFailed as error:
        raise SettingError(f"strategy {name}: {error}") from None
    found = {
        each: kind
        for each, kind in vars(module).items()
        if inspect.isclass(kind)
        and issubclass(kind, BaseSampler)
        and kind.__module__.partition(".")[0] == module.__name__.partition(".")[0]
    }
    if not found:
        raise UnknownName(f"strategy {name}: the package holds no sampler")
    wanted = match["kind"] or next(iter(found))
    if wanted not in found or (match["kind"] is None and len(found) > 1):
        hint = nearest(wanted, found) if match["kind"] else f"add one of :{', :'.join(sorted(found))}"
        raise UnknownName(f"strategy {name}: which sampler? {hint}")
    return strategy_of(found[wanted], name, KeptSampler)


def _module(package: str, ref: str | None) -> ModuleType:
    """The package, from a folder or from the registry.

    Raises:
        SettingError: OptunaHub is not installed, or there is no such folder.
    """
    try:
        import optunahub
    except ImportError:
        raise SettingError(f"strategy {FOREIGN}{package} needs OptunaHub: {EXTRA}") from None
    if not package.startswith(("/", ".", "~")):
        hub: Any = optunahub
        module: ModuleType = hub.load_module(package, ref=ref or "main")
        return module
    folder = Path(package).expanduser().resolve()
    if not (folder / "__init__.py").is_file():
        raise SettingError(f"strategy {FOREIGN}{package}: {folder} is no package (it has no __init__.py)")
    loaded: ModuleType = optunahub.load_local_module(folder.name, registry_root=str(folder.parent))
    return loaded
