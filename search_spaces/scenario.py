"""The circumstances that a number belongs to.

Latency, memory and FLOPs mean nothing without the device, the batch and the lengths they were taken at, so
every such figure carries its `Scenario`.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from foundation.errors import SettingError
from foundation.registry import nearest

DTYPES = ("float32", "float64", "bfloat16", "float16")

WEIGHTS = ("plain", "packed")

_DEVICE = re.compile(r"(cpu|cuda|mps|xpu|hpu|xla|mtia|meta)(:\d+)?")
_NAME = re.compile(r"[A-Za-z][\w.-]*")


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One way of using a model: prefill `prompt` tokens, then decode `new_tokens` one by one.

    `device` is a torch device name; `engine` names what runs the model (`hw_profiles.runtimes`, which check
    it where a scenario is used); `threads` is the number of CPU threads that are pinned while timing.
    `weights` are plain floats, or packed integers on kernels of their own wherever the device has them
    (`search_spaces.quantization.kernels`). `name` is for readers: scenarios that differ in nothing else are
    equal, and so are their numbers (`conditions` has no name).
    """

    device: str = "cpu"
    engine: str = "eager"
    batch: int = 1
    prompt: int = 256
    new_tokens: int = 64
    dtype: str = "float32"
    threads: int = 1
    weights: str = "plain"
    name: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        for name in ("batch", "prompt", "new_tokens", "threads"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise SettingError(f"scenario: {name} must be a positive integer, got {value!r}")
        for name, known in (("dtype", DTYPES), ("weights", WEIGHTS)):
            if getattr(self, name) not in known:
                raise SettingError(
                    f"scenario: {name} {getattr(self, name)!r} is not one of {', '.join(known)}"
                )
        if self.name and not _NAME.fullmatch(self.name):
            raise SettingError(f"scenario: a name is a word such as chat, got {self.name!r}")

    @property
    def context(self) -> int:
        """Tokens held by the state when the last new token has been decoded."""
        return self.prompt + self.new_tokens

    @property
    def decode_position(self) -> int:
        """The position at which one decode step stands for all of them: half the new tokens are out."""
        return self.prompt + self.new_tokens // 2

    @classmethod
    def parse(cls, text: str) -> Scenario:
        """Read `"chat=cuda:0,engine=graph,batch=1,prompt=512,new=128"`.

        The name before the first `=` may be left out, and so may everything else: it keeps its default.
        """
        types = {field.name: str(field.type) for field in fields(cls)}
        name, text = _named(text.strip(), types)
        given: dict[str, Any] = {"name": name} if name else {}
        for part in filter(None, (part.strip() for part in text.split(","))):
            setting, equals, value = part.partition("=")
            if not equals:
                setting, value = "device", part
            setting = _SHORT.get(setting, setting)
            if setting not in types:
                raise SettingError(f"scenario: unknown setting {setting!r}; {nearest(setting, types)}")
            if setting in given:
                raise SettingError(f"scenario: {setting} is given twice, {given[setting]!r} and {value!r}")
            try:
                given[setting] = int(value) if types[setting] == "int" else value
            except ValueError:
                raise SettingError(f"scenario: {setting} must be an integer, got {value!r}") from None
        return cls(**given)

    def to_json(self) -> dict[str, Any]:
        """Plain values by name; without a name where there is none."""
        plain = asdict(self)
        if not self.name:
            del plain["name"]
        return plain

    def conditions(self) -> dict[str, Any]:
        """What a number depends on: all plain values but the name."""
        return {key: value for key, value in asdict(self).items() if key != "name"}

    def __str__(self) -> str:
        lengths = f"batch {self.batch}, prompt {self.prompt}, {self.new_tokens} new tokens"
        label = f"{self.name}: " if self.name else ""
        weights = ", packed weights" if self.weights == "packed" else ""
        return (
            f"{label}{self.device} {self.engine}, {lengths}, {self.dtype}{weights}, {self.threads} thread(s)"
        )


_SHORT = {"new": "new_tokens"}


def _named(text: str, settings: dict[str, str]) -> tuple[str, str]:
    """The name in front of a scenario, and the rest: `chat=cuda:0,...` and `chat=batch=1,...` have one."""
    word, equals, rest = text.partition("=")
    first = rest.partition(",")[0].strip()
    if not equals or not _NAME.fullmatch(word) or word in settings or word in _SHORT:
        return "", text
    if _DEVICE.fullmatch(first) or "=" in first:
        return word, rest
    return "", text
