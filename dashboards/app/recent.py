"""What takes a while to make and is asked for again, kept for the last few askers."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Recent(Generic[Value]):
    """Values by what they were made of: the last ones, at most so many. Threads may share it."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._kept: OrderedDict[Hashable, Value] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """The value of a key, made if it is not there."""
        try:
            return self._kept[key]
        except KeyError:
            made = make()
        self._kept[key] = made
        while len(self._kept) > self.most:
            self._kept.popitem(last=False)
        return made
