"""The circumstances that a number belongs to.

Latency, memory and FLOPs mean nothing without the device, the batch and the lengths they were taken at, so
every such figure carries its `Scenario`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from search_spaces.errors import SettingError
from search_spaces.registry import nearest

DTYPES = ("float32", "float64", "bfloat16", "float16")


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One way of using a model: prefill `prompt` tokens, then decode `new_tokens` one by one.

    `device` is a torch device name; `engine` says how the model is run (today: eager); `threads` is the
    number of CPU threads that are pinned while timing.
    """

    device: str = "cpu"
    engine: str = "eager"
    batch: int = 1
    prompt: int = 256
    new_tokens: int = 64
    dtype: str = "float32"
    threads: int = 1

    def __post_init__(self) -> None:
        for name in ("batch", "prompt", "new_tokens", "threads"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise SettingError(f"scenario: {name} must be a positive integer, got {value!r}")
        if self.dtype not in DTYPES:
            raise SettingError(f"scenario: dtype {self.dtype!r} is not one of {', '.join(DTYPES)}")
        if self.engine != "eager":
            raise SettingError(f"scenario: engine {self.engine!r} is not one of eager")

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
        """Read `"cuda:0,batch=1,prompt=512,new_tokens=128"`; what is left out keeps its default."""
        given: dict[str, Any] = {}
        types = {field.name: str(field.type) for field in fields(cls)}
        for part in filter(None, (part.strip() for part in text.split(","))):
            name, equals, value = part.partition("=")
            if not equals:
                name, value = "device", part
            name = {"new": "new_tokens"}.get(name, name)
            if name not in types:
                raise SettingError(f"scenario: unknown setting {name!r}; {nearest(name, types)}")
            try:
                given[name] = int(value) if types[name] == "int" else value
            except ValueError:
                raise SettingError(f"scenario: {name} must be an integer, got {value!r}") from None
        return cls(**given)

    def to_json(self) -> dict[str, Any]:
        """Plain values by name."""
        return asdict(self)

    def __str__(self) -> str:
        lengths = f"batch {self.batch}, prompt {self.prompt}, {self.new_tokens} new tokens"
        return f"{self.device} {self.engine}, {lengths}, {self.dtype}, {self.threads} thread(s)"
