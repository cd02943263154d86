"""Parts of a settings tree that come in several kinds: one file each, chosen by name.

optimizers: Registry[type[Optimizer]] = Registry("optimizer", folder="evaluators.training.optimizers")

class Optimizer(Part):
    registry = optimizers

@optimizers.add
@dataclass(frozen=True, kw_only=True)
class AdamW(Optimizer):
    name = "adamw"
    decay: float = setting(0.1, help="Weight decay.", least=0)

Optimizer.from_plain({"name": "adamw", "decay": 0.0})
Optimizer.from_word("adamw")
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from foundation.errors import SettingError
from foundation.registry import Registry
from foundation.settings import Settings

P = TypeVar("P", bound="Part")


@dataclass(frozen=True, kw_only=True)
class Part(Settings):
    """Settings of one of several kinds; in plain values, `name` says of which."""

    name: ClassVar[str]
    registry: ClassVar[Registry[Any]]

    def to_plain(self) -> dict[str, Any]:
        """Values that JSON can hold, by name, and the name of the kind."""
        return {"name": self.name, **super().to_plain()}

    @classmethod
    def from_plain(cls: type[P], plain: Mapping[str, Any]) -> P:
        """The part that `to_plain` wrote.

        Raises:
            UnknownName: there is no such kind, or it has no such setting; the nearest is named.
            SettingError: no kind is named, or a value is out of range.
        """
        kind = cls._kind(plain)
        settings = {name: value for name, value in plain.items() if name != "name"}
        part: P = super(Part, kind).from_plain(settings)  # type: ignore[assignment]  # kind is one of cls
        return part

    @classmethod
    def from_text(cls: type[P], texts: Mapping[str, str]) -> P:
        """The part whose kind and settings are written as text.

        Raises:
            UnknownName: there is no such kind, or it has no such setting; the nearest is named.
            SettingError: no kind is named, or a value is out of range.
        """
        kind: Any = cls._kind(texts) if "name" in texts or not hasattr(cls, "name") else cls
        settings = {name: text for name, text in texts.items() if name != "name"}
        part: P = super(Part, kind).from_text(settings)  # type: ignore[assignment]
        return part

    @classmethod
    def _kind(cls, named: Mapping[str, Any]) -> Any:
        if "name" not in named:
            raise SettingError(f"which {cls.registry.kind}? give its name: {', '.join(cls.registry)}")
        return cls.registry[named["name"]]

    @classmethod
    def from_line(cls: type[P], text: str) -> P:
        """The part that `NAME[,SETTING=VALUE...]` describes.

        Raises:
            UnknownName: there is no such kind, or it has no such setting; the nearest is named.
            SettingError: a value is out of range.
        """
        name, _, settings = text.partition(",")
        part: P = cls.registry[name.strip()].parse(settings)
        return part

    @classmethod
    def from_word(cls: type[P], word: str) -> P:
        """The part of a name, with its default settings.

        Raises:
            UnknownName: there is no such kind; the nearest is named.
        """
        part: P = cls.registry[word]()
        return part
