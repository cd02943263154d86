"""The arguments of an Optuna sampler's constructor as settings of a strategy."""

from __future__ import annotations

import inspect
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, fields, make_dataclass
from typing import Any, ClassVar, get_args

import optuna
from optuna.samplers import BaseSampler

from foundation.errors import SettingError
from foundation.settings import Settings, setting

LIAR = "constant_liar"
SEED = "seed"

MOST = 10**5
"""Of whatever is counted."""


@dataclass(frozen=True, kw_only=True)
class SamplerSettings(Settings):
    """Arguments of a sampler's constructor, by their names there.

    Raises:
        SettingError: the sampler refuses them, or cannot be made.
    """

    make: ClassVar[Callable[..., BaseSampler]]
    fixed: ClassVar[Mapping[str, Any]] = {}
    """Arguments that are not to be set."""

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            self.sampler(0)
        except ImportError as error:
            raise SettingError(f"{self.title}: {str(error).splitlines()[0]}") from None
        except (TypeError, ValueError) as error:
            raise SettingError(f"{self.title}: {' '.join(str(error).split())}") from None

    def sampler(self, seed: int) -> BaseSampler:
        """A new sampler, of this seed where it takes one."""
        kind = type(self).make
        known = inspect.signature(kind).parameters
        chosen = {field.name: getattr(self, field.name) for field in fields(self)}
        given = {
            name: value
            for name, value in {**chosen, **self.fixed}.items()
            if known[name].default is known[name].empty or value != known[name].default
        }
        with quiet():
            return kind(**given, **({SEED: seed} if SEED in known else {}))


def settings_of(make: type[BaseSampler], title: str) -> type[SamplerSettings]:
    """The plain arguments of a sampler's constructor as settings, with their defaults there.

    Raises:
        SettingError: it needs an argument that is no plain value.
    """
    entries: list[tuple[str, Any, Any]] = []
    for name, parameter in inspect.signature(make).parameters.items():
        plain = _plain_type(parameter)
        required = parameter.default is parameter.empty
        if name == SEED or parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        if plain is None and required:
            raise SettingError(f"{title} needs {name}, which no setting can say")
        if plain is not None:
            default = MISSING if required else True if name == LIAR else parameter.default
            least, most = _bounds(make, plain, default)
            described = setting(default, help=_said_of(make, name), least=least, most=most)
            entries.append((name, plain, described))
    made: type[SamplerSettings] = make_dataclass(
        f"{make.__name__}Settings",
        entries,
        bases=(SamplerSettings,),
        namespace={"title": title, "make": make, "__doc__": inspect.getdoc(make)},
        frozen=True,
        kw_only=True,
    )
    return made


@contextmanager
def quiet() -> Iterator[None]:
    """Without Optuna's lines about each trial, and its warnings that something is new."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)


def _bounds(make: type[BaseSampler], plain: Any, default: Any) -> tuple[float | None, float | None]:
    """The least and largest value of an argument of Optuna's own samplers.

    They take negative counts and shares, and mean nothing by them, but where the default is negative; and
    make room for any number of candidates.
    """
    numbers = {int, float} & {plain, *get_args(plain)}
    if not numbers or not make.__module__.startswith("optuna."):
        return None, None
    negative = isinstance(default, int | float) and default < 0
    return None if negative else 0, MOST if int in numbers else None


def _said_of(make: type[BaseSampler], name: str) -> str:
    """The first sentence of what a sampler's own text says of an argument."""
    text = inspect.getdoc(make) or ""
    found = re.search(rf"^ +{name}:\n((?: +.*\n?)+?)(?=\n| *\w+:\n|\Z)", text, re.MULTILINE)
    sentence = " ".join(found.group(1).split()).partition(". ")[0].strip(". ") if found else ""
    plain = re.sub(r":\w+:`~?([^`]*)`", r"\1", sentence).replace("``", "")
    return f"{plain}." if plain else ""


PLAIN = {"int": int, "float": float, "bool": bool, "str": str}


def _plain_type(parameter: inspect.Parameter) -> Any:
    """The type of an argument that text can say; None where it has none."""
    annotation = parameter.annotation
    words = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))
    kinds = [PLAIN[word.strip()] for word in words.split("|") if word.strip() in PLAIN]
    if not kinds:
        return None
    union: Any = kinds[0]
    for kind in kinds[1:]:
        union = union | kind
    return union | None if parameter.default is None else union
