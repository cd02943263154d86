"""Device cards: the peak figures of a device, for the roofline; and a short probe that measures them here.

    cards["h100-sxm"].bandwidth          # bytes per second, from its public sheet
    probe("cpu", threads=1)              # a card of this machine, measured in seconds
    devices_here()                       # what can be timed on this machine, and what is known of it

A card is a JSON file; those in `hw_profiles/devices` are known by name, any other one by its path. A nominal
figure is what a manufacturer prints, a measured one what a copy and a product reached; every figure names its
source. Nothing is guessed: what a card does not state cannot be asked of it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

import torch

from foundation.errors import FileError, NasError, ProfileError
from foundation.fields import Field
from foundation.files import read_json, write_json
from foundation.registry import Registry, nearest
from hw_profiles.fingerprint import cpu_model, gpu_name
from search_spaces.devices import memory_of
from search_spaces.scenario import DTYPES

FORMAT, VERSION = "nas device card", 1
FOLDER = Path(__file__).parents[1] / "devices"
KINDS = ("cpu", "cuda")

CARD_BYTES = 2**16
"""The largest file of a card."""

MOST_RATE, MOST_BYTES, MOST_CORES, MOST_LAUNCH_US = 1e21, 10**18, 10**6, 1e9
"""FLOPs or bytes per second, bytes, cores, and microseconds, beyond which a figure is none of a device."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """What is known of a device.

    `flops` are operations per second by dtype, 2 per multiply-add, dense; on a CPU those of all `cores`.
    `bandwidth` is bytes per second to and from memory, `launch_us` the microseconds that one small operation
    takes from Python however little it does. `matches` are names by which such devices call themselves.
    """

    name: str
    title: str
    kind: str
    flops: Mapping[str, float]
    bandwidth: float
    sources: Mapping[str, str]
    measured: bool = False
    cores: int = 1
    memory_bytes: int | None = None
    launch_us: float | None = None
    matches: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ProfileError(f"card {self.name}: kind {self.kind!r} is not one of {', '.join(KINDS)}")
        for dtype in self.flops:
            if dtype not in DTYPES:
                raise ProfileError(f"card {self.name}: unknown dtype {dtype!r}; {nearest(dtype, DTYPES)}")
        told = {
            **self.flops,
            "bandwidth": self.bandwidth,
            "cores": self.cores,
            "memory_bytes": self.memory_bytes,
            "launch_us": self.launch_us,
        }
        for what, value in told.items():
            if value is not None and not (isfinite(value) and value > 0):
                raise ProfileError(f"card {self.name}: {what} must be a positive number, got {value!r}")
        named = ["flops", "bandwidth", *(n for n in ("memory_bytes", "launch_us") if told[n] is not None)]
        for what in named:
            if not self.sources.get(what):
                raise ProfileError(f"card {self.name}: no source is given for {what}")

    def flops_of(self, dtype: str, threads: int = 1) -> float:
        """Operations per second in a dtype; on a CPU, of so many threads.

        Raises:
            ProfileError: the card does not say.
        """
        if dtype not in self.flops:
            known = ", ".join(self.flops)
            raise ProfileError(f"card {self.name} has no peak for {dtype}, only for {known}")
        share = min(threads, self.cores) / self.cores if self.kind == "cpu" else 1.0
        return share * self.flops[dtype]

    def to_plain(self) -> dict[str, Any]:
        """Values that JSON can hold; what is not known is left out."""
        plain: dict[str, Any] = {"format": FORMAT, "version": VERSION, "name": self.name, "title": self.title}
        plain |= {"kind": self.kind, "measured": self.measured, "matches": list(self.matches)}
        plain |= {"cores": self.cores} if self.kind == "cpu" else {}
        plain |= {"flops": dict(self.flops), "bandwidth": self.bandwidth}
        for name in ("memory_bytes", "launch_us"):
            if getattr(self, name) is not None:
                plain[name] = getattr(self, name)
        return {**plain, "sources": dict(self.sources)}

    @classmethod
    def from_plain(cls, plain: Any, where: str = "card") -> Card:
        """The card written by `to_plain`.

        Raises:
            ProfileError: this is no card, or one that does not hold together.
        """
        if not isinstance(plain, Mapping) or (plain.get("format"), plain.get("version")) != (FORMAT, VERSION):
            raise ProfileError(f"{where}: not a {FORMAT} of version {VERSION}")
        try:
            return cls(**_card_values(Field(plain)))
        except NasError as error:
            raise ProfileError(f"{where}: {error}") from error

    def save(self, path: Path) -> None:
        """Write the card as JSON."""
        write_json(path, self.to_plain())

    def __str__(self) -> str:
        peaks = ", ".join(f"{dtype} {_si(rate)}FLOP/s" for dtype, rate in self.flops.items())
        memory = f", {_si(self.memory_bytes)}B of memory" if self.memory_bytes else ""
        launch = f", {self.launch_us:.3g} us per operation" if self.launch_us else ""
        how = "measured" if self.measured else "nominal"
        return f"{self.name}: {self.title}; {how}: {peaks}, {_si(self.bandwidth)}B/s{memory}{launch}"


def _card_values(card: Field) -> dict[str, Any]:
    """What a card's file holds, checked by kind and range.

    Raises:
        FileError: a value is missing, of another kind, or out of range.
    """
    card.only("format", "version", *Card.__dataclass_fields__)
    whole = {"cores": MOST_CORES, "memory_bytes": MOST_BYTES}
    known: dict[str, float] = {
        name: card[name].whole(least=1, most=most) for name, most in whole.items() if name in card.plain
    }
    if "launch_us" in card.plain:
        known["launch_us"] = card["launch_us"].number(positive=True, most=MOST_LAUNCH_US)
    return {
        "name": card["name"].name(),
        "title": card["title"].text(),
        "kind": card["kind"].word(KINDS),
        "flops": {dtype: rate.number(positive=True, most=MOST_RATE) for dtype, rate in card["flops"].items()},
        "bandwidth": card["bandwidth"].number(positive=True, most=MOST_RATE),
        "sources": {name: source.text(most=2_000) for name, source in card["sources"].items(most=100)},
        "measured": card.get("measured", False).flag(),
        "matches": tuple(match.text() for match in card.get("matches", []).entries(most=1_000)),
        **known,
    }


class _Cards(Registry[Card]):
    """Fills itself from the JSON files of a folder."""

    def _fill(self) -> None:
        if self._filled:
            return
        self._filled = True
        for path in sorted(FOLDER.glob("*.json")):
            self.add(load_card(path))


cards: Registry[Card] = _Cards("device card", folder="hw_profiles.devices")


def load_card(path: Path) -> Card:
    """The card in a file.

    Raises:
        ProfileError: it cannot be read, or is none.
    """
    try:
        plain = read_json(path, at_most=CARD_BYTES)
    except FileError as error:
        raise ProfileError(str(error)) from error
    return Card.from_plain(plain, str(path))


def card_named(source: str) -> Card:
    """A card by its name, or by the path of its file.

    Raises:
        UnknownName: no card of this name.
        ProfileError: the file is none.
    """
    return load_card(Path(source)) if source.endswith(".json") else cards[source]


def card_of(device: str) -> Card | None:
    """The shipped card of a device of this machine; a measured one before a nominal one."""
    name = gpu_name(device) if device.startswith("cuda") else cpu_model()
    found = [card for card in cards.values() if name in card.matches]
    return min(found, key=lambda card: not card.measured, default=None)


def devices_here() -> list[dict[str, Any]]:
    """The devices of this machine: name, size, and the card that describes it where one does."""
    found: list[dict[str, Any]] = [_cpu_here()]
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            about = torch.cuda.get_device_properties(index)
            found.append(
                {
                    "device": f"cuda:{index}",
                    "name": about.name,
                    "memory_bytes": about.total_memory,
                    "capability": f"{about.major}.{about.minor}",
                }
            )
    for device in found:
        card = card_of(device["device"])
        device["card"] = None if card is None else card.name
    return found


def _cpu_here() -> dict[str, Any]:
    memory = memory_of("cpu")
    return {"device": "cpu", "name": cpu_model(), "cores": os.cpu_count(), "memory_bytes": memory}


def _si(value: float) -> str:
    """A number with a prefix: 3.35 T."""
    for size, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.4g} {prefix}"
    return f"{value:.4g} "
