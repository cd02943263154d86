"""The circumstances that a number belongs to.

Latency, memory and FLOPs mean nothing without the device, the batch and the lengths they were taken at, so
every such figure carries its `Scenario`.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Self

from foundation.errors import SettingError
from foundation.settings import MANY, Settings, describe, parse_assignments, setting
from foundation.text import count
from search_spaces.devices import is_device

DTYPES = ("float32", "float64", "bfloat16", "float16")

WEIGHTS = ("plain", "packed")

MOST_THREADS = 1024
"""CPU threads of a process at most; with very many, libraries fail in their own ways."""

_NAME = re.compile(r"[A-Za-z][\w.-]*")


FEWEST_ARRIVALS = 1e-3
"""Requests a second: with fewer, a server waits and nothing is measured."""


@dataclass(frozen=True, kw_only=True)
class Scenario(Settings):
    """One way of using a model: prefill `prompt` tokens, then decode `new_tokens` one by one.

    `engine` names what runs the model (`hw_profiles.runtimes`, which check it where a scenario is used).
    Packed `weights` are integers on kernels of their own wherever the device has them
    (`search_spaces.quantization.kernels`). With `arrivals`, requests come at random times to a server that
    decodes at most `batch` of them together. Scenarios that differ in nothing but their names are equal, and
    so are their numbers (`conditions` has no name).

    Raises:
        SettingError: a value is out of range.
    """

    title: ClassVar[str] = "scenario"

    device: str = setting("cpu", help="Torch name of the device: cpu, cuda:0.")
    engine: str = setting(
        "eager", help="What runs the model: eager, compile, graph, onnxruntime, executorch, aotinductor."
    )
    batch: int = setting(1, help="Sequences at a time.", least=1, most=10**6)
    prompt: int = setting(256, help="Tokens that are read at once.", least=1, most=MANY)
    new_tokens: int = setting(64, help="Tokens that are then decoded one by one.", least=1, most=MANY)
    dtype: str = setting("float32", help="Type of weights and activations.", choices=DTYPES)
    threads: int = setting(1, help="CPU threads that are pinned while timing.", least=1, most=MOST_THREADS)
    weights: str = setting("plain", help="Plain floats, or packed integers.", choices=WEIGHTS)
    arrivals: float = setting(
        0.0,
        help="Requests that arrive in a second at a server of `batch` rows; 0: none.",
        least=0,
        most=10**6,
    )
    name: str = setting("", compare=False, help="What a reader calls it.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.name and not _NAME.fullmatch(self.name):
            raise SettingError(f"scenario: a name is a word such as chat, got {self.name!r}")
        if 0 < self.arrivals < FEWEST_ARRIVALS:
            raise SettingError(
                f"scenario: arrivals must be at least {FEWEST_ARRIVALS:g} a second, got {self.arrivals:g}"
            )

    @property
    def context(self) -> int:
        """Tokens held by the state when the last new token has been decoded."""
        return self.prompt + self.new_tokens

    @property
    def decode_position(self) -> int:
        """The position at which one decode step stands for all of them: half the new tokens are out."""
        return self.prompt + self.new_tokens // 2

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `"chat=cuda:0,engine=graph,batch=1,prompt=512,new_tokens=128"`.

        `new` is `new_tokens`, and rates are a second: `chat=cpu,batch=8,arrivals=4/s,prompt=512,new=128`.
        The name before the first `=` may be left out, and so may all else but one: it keeps its default.

        Raises:
            SettingError: it says nothing, or what cannot be read.
        """
        if not text.strip(", "):
            raise SettingError("scenario must not be empty: write e.g. cpu,batch=1,prompt=256")
        name, text = _split_name(text.strip())
        parts = [f"name={name}"] if name else []
        parts += [_assignment(part.strip()) for part in text.split(",") if part.strip()]
        return cls.from_text(parse_assignments(parts))

    def written(self) -> str:
        """As it is parsed: its device, and what differs from the defaults."""
        values, usual = self.conditions(), Scenario().conditions()
        device = values.pop("device")
        others = (f"{name}={value}" for name, value in values.items() if value != usual.get(name))
        return (f"{self.name}=" if self.name else "") + ",".join([device, *others])

    def to_json(self) -> dict[str, Any]:
        """Plain values by name; without a name or arrivals where there are none."""
        return self.conditions() | ({"name": self.name} if self.name else {})

    def conditions(self) -> dict[str, Any]:
        """What a number depends on: all plain values but the name, and arrivals only where there are some."""
        plain = asdict(self)
        del plain["name"]
        if not self.arrivals:
            del plain["arrivals"]
        return plain

    def __str__(self) -> str:
        lengths = f"batch {self.batch}, prompt {self.prompt}, {self.new_tokens} new tokens"
        label = f"{self.name}: " if self.name else ""
        lengths += f", {self.arrivals:g} arrivals/s" if self.arrivals else ""
        weights = ", packed weights" if self.weights == "packed" else ""
        threads = count(self.threads, "thread")
        return f"{label}{self.device} {self.engine}, {lengths}, {self.dtype}{weights}, {threads}"


_FIELDS = frozenset(described.name for described in describe(Scenario)) | {"new"}


def _assignment(part: str) -> str:
    """A part of a scenario's text as an assignment.

    `cuda:0` stands for `device=cuda:0`, `new=128` for `new_tokens=128`, and rates may end in `/s`.
    """
    name, equals, value = (word.strip() for word in part.partition("="))
    if not equals:
        return f"device={part}"
    if name == "arrivals":
        value = value.removesuffix("/s").strip()
    return f"{'new_tokens' if name == 'new' else name}={value}"


def _split_name(text: str) -> tuple[str, str]:
    """The name in front of a scenario, and the rest: `chat=cuda:0,...` and `chat=batch=1,...` have one."""
    word, equals, rest = text.partition("=")
    first = rest.partition(",")[0].strip()
    if not equals or not _NAME.fullmatch(word) or word in _FIELDS:
        return "", text
    return (word, rest) if is_device(first) or "=" in first else ("", text)
