"""How a configuration says which layer stands where: read in both directions.

Alike("layer")                                             all layers are of one kind
Listed("layer_types", {"full_attention": "full"}, ...)     one word for each layer
Periodic("period", "offset", ("attention", "mamba"))       every so many layers one is of the first kind
Both(Listed(...), Listed(...))                             two words for each layer
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from foundation.errors import SettingError
from search_spaces.families.config import REQUIRED, Config

COUNT = "num_hidden_layers"


class Stack(ABC):
    """The kinds of layers of a family, by a label for each layer."""

    @abstractmethod
    def read(self, config: Config) -> list[str]:
        """The label of every layer."""

    @abstractmethod
    def write(self, labels: Sequence[str]) -> dict[str, Any]:
        """The keys that say the same.

        Raises:
            SettingError: the family has no such order of layers.
        """


@dataclass(frozen=True)
class Alike(Stack):
    """All layers are of one kind."""

    label: str = "layer"
    count: str = COUNT

    def read(self, config: Config) -> list[str]:
        """As many as it says."""
        return [self.label] * config.whole(self.count)

    def write(self, labels: Sequence[str]) -> dict[str, Any]:
        """Their number."""
        if strange := next((label for label in labels if label != self.label), None):
            raise SettingError(f"all layers are {self.label}, and one is {strange}")
        return {self.count: len(labels)}


@dataclass(frozen=True)
class Chosen(Stack):
    """All layers are of one kind, which one key says: `words` are its values with our labels."""

    key: str
    words: Mapping[Any, str]
    default: Any = REQUIRED
    count: str = COUNT

    def read(self, config: Config) -> list[str]:
        """The label of its value, as often as there are layers."""
        value = config.get(self.key, self.default)
        known = [label for word, label in self.words.items() if word is value or word == value]
        if not known:
            raise config.wrong(self.key, value, " or ".join(map(str, self.words)))
        return known[:1] * config.whole(self.count)

    def write(self, labels: Sequence[str]) -> dict[str, Any]:
        """The value, and how many there are."""
        if len(set(labels)) > 1:
            raise SettingError(
                f"{self.key} has one value for all layers, which are {' and '.join(set(labels))}"
            )
        words = {label: word for word, label in self.words.items()}
        said = {self.key: words[labels[0]]} if labels else {}
        return {self.count: len(labels), **said}


@dataclass(frozen=True)
class Listed(Stack):
    """A list says a word for every layer; `words` are their words with our labels.

    `default` makes the list from a configuration without one, from the keys that it is `instead_of`.
    """

    key: str
    words: Mapping[Any, str]
    default: Callable[[Config], list[Any]] | None = None
    instead_of: tuple[str, ...] = ()
    count: str = COUNT

    def read(self, config: Config) -> list[str]:
        """The label of every layer, if its word is known."""
        default = REQUIRED
        config.read.update(self.instead_of)
        if self.default is not None and config.get(self.key, None) is None:
            default = self.default(config)
        listed = config.words(self.key, config.whole(self.count), default)
        for index, word in enumerate(listed):
            if not isinstance(word, (str, int)) or word not in self.words:
                known = " or ".join(map(str, self.words))
                raise config.wrong(f"{self.key}.{index}", word, known)
        return [self.words[word] for word in listed]

    def write(self, labels: Sequence[str]) -> dict[str, Any]:
        """The list."""
        words = {label: word for word, label in self.words.items()}
        return {self.count: len(labels), self.key: [words[label] for label in labels]}


@dataclass(frozen=True)
class Periodic(Stack):
    """Every so many layers one has the first of two labels, from an offset on; all others the second."""

    period: str
    offset: str
    labels: tuple[str, str]
    defaults: tuple[int, int]
    count: str = COUNT

    def read(self, config: Config) -> list[str]:
        """The label of every layer."""
        period, offset = (
            config.whole(self.period, self.defaults[0]),
            config.get(self.offset, self.defaults[1]),
        )
        if type(offset) is not int or not 0 <= offset < period:
            raise config.wrong(self.offset, offset, f"a whole number from 0 to {period - 1}")
        return self._labels(config.whole(self.count), period, offset)

    def write(self, labels: Sequence[str]) -> dict[str, Any]:
        """Period and offset; with one or none of the first label, the period is as long as the network."""
        chosen = [index for index, label in enumerate(labels) if label == self.labels[0]]
        offset = chosen[0] if chosen else len(labels)
        period = chosen[1] - offset if len(chosen) > 1 else max(len(labels), offset + 1)
        if offset >= period or self._labels(len(labels), period, offset) != list(labels):
            raise SettingError(f"layers with {self.labels[0]} must be equally far apart, and are {chosen}")
        return {self.count: len(labels), self.period: period, self.offset: offset}

    def _labels(self, count: int, period: int, offset: int) -> list[str]:
        return [self.labels[0 if index % period == offset else 1] for index in range(count)]


@dataclass(frozen=True)
class Both(Stack):
    """Two stacks that each say something of every layer: its label is theirs, with a space between."""

    first: Stack
    second: Stack

    def read(self, config: Config) -> list[str]:
        """The labels of both."""
        pairs = zip(self.first.read(config), self.second.read(config), strict=True)
        return [f"{first} {second}" for first, second in pairs]

    def write(self, labels: Sequence[str]) -> dict[str, Any]:
        """The keys of both."""
        first, second = zip(*(label.split(" ") for label in labels), strict=True) if labels else ((), ())
        return self.first.write(first) | self.second.write(second)
