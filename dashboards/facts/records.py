"""What the steps of a study recorded: corpus, latency table, supernet, validation of the proxy.

They are read from plain JSON; what a study has not recorded is None.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from nas.study.facts import TABLES

Pairs: TypeAlias = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class CorpusFacts:
    """The training text; `reference` holds the bits per byte of compressors on its validation part.

    With a tokenizer it is read as tokens of a `vocab`, each of so many bytes on average; without, as bytes.
    """

    name: str
    digest: str
    train_bytes: int
    valid_bytes: int
    reference: Mapping[str, float] = field(default_factory=dict)
    vocab: int | None = None
    bytes_per_token: float = 1.0


@dataclass(frozen=True)
class LatencyAccuracy:
    """The table's error for one latency; `pairs` are (predicted, measured) of held-out networks, in ms."""

    name: str
    mape: float | None
    tau: float | None
    interval: tuple[float, float] | None
    pairs: Pairs


@dataclass(frozen=True)
class TableFacts:
    """The latency table behind the predictions in a scenario, or the device card behind an estimate.

    `scenario` is its text. `elsewhere` says how the machine of the table differs from that of the study.
    """

    accuracies: tuple[LatencyAccuracy, ...]
    seconds: float | None = None
    machine: str | None = None
    notes: tuple[str, ...] = ()
    estimate: str | None = None
    scenario: str = ""
    elsewhere: str = ""


@dataclass(frozen=True)
class SupernetFacts:
    """How the supernet was trained; `loss` holds (step, loss of the largest, loss of the smallest subnet)."""

    steps: int
    seconds: float
    loss: tuple[tuple[int, float, float], ...]


@dataclass(frozen=True)
class Ranking:
    """Kendall's tau of an engine's own predictions and what is named by `against`, over random networks."""

    against: str
    tau: float
    interval: tuple[float, float] | None
    networks: int


@dataclass(frozen=True)
class ClaimFacts:
    """The criterion by which an engine chose, how well it ranks networks, and remarks of the engine."""

    engine: str
    by: str
    rankings: tuple[Ranking, ...] = ()
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class GainFacts:
    """The hypervolume of `candidates` of the search over that of `against` random ones.

    `effort` describes the work of the engine before its trials; `over_all` compares the same candidates with
    all random ones on record.
    """

    ratio: float
    interval: tuple[float, float] | None
    candidates: int
    against: int
    effort: str = ""
    over_all: GainFacts | None = None


@dataclass(frozen=True)
class ValidationFacts:
    """How the proxy ranks random networks, compared with training each from scratch.

    `pairs` are (proxy, from scratch, digest); `zero_cost` are rankings by scores of initial weights.
    """

    tau: float | None
    interval: tuple[float, float] | None
    pairs: tuple[tuple[float, float, str], ...]
    steps: int | None
    claims: ClaimFacts | None = None
    gain: GainFacts | None = None
    zero_cost: tuple[Ranking, ...] = ()
    zero_cost_verdict: str = ""


def read_corpus(plain: Mapping[str, Any] | None) -> CorpusFacts | None:
    """The recorded corpus."""
    if not plain:
        return None
    return CorpusFacts(
        plain["name"],
        plain["digest"],
        plain["train_bytes"],
        plain["valid_bytes"],
        dict(plain.get("reference", {})),
        plain.get("vocab"),
        plain.get("bytes_per_token", 1.0),
    )


def read_tables(records: Mapping[str, Any]) -> tuple[TableFacts, ...]:
    """The recorded errors of the latency tables of all scenarios; `table` is that of the first one."""
    plain = list((records.get(TABLES) or {}).values()) or [records.get("table")]
    return tuple(_table(each) for each in plain if each)


def _table(plain: Mapping[str, Any]) -> TableFacts:
    accuracies = tuple(
        LatencyAccuracy(
            name,
            plain[name].get("mape"),
            plain[name].get("tau"),
            _interval(plain[name].get("tau_interval")),
            tuple((p, m) for p, m in plain[name].get("held_out", ())),
        )
        for name in ("prefill_ms", "decode_ms")
        if name in plain
    )
    return TableFacts(
        accuracies,
        plain.get("seconds"),
        plain.get("machine"),
        tuple(plain.get("notes", ())),
        plain.get("estimate"),
        plain.get("scenario") or "",
        plain.get("elsewhere") or "",
    )


def read_supernet(plain: Mapping[str, Any] | None) -> SupernetFacts | None:
    """The recorded training of the supernet."""
    if not plain:
        return None
    loss = tuple((step, largest, smallest) for step, largest, smallest in plain.get("loss", ()))
    return SupernetFacts(plain["steps"], plain["seconds"], loss)


def read_validation(plain: Mapping[str, Any] | None) -> ValidationFacts | None:
    """The recorded validation of the proxy, and the gain over random choice."""
    if not plain:
        return None
    return ValidationFacts(
        plain.get("tau"),
        _interval(plain.get("interval")),
        tuple((proxy, truth, digest) for proxy, truth, digest in plain.get("pairs", ())),
        plain.get("steps"),
        _claims(plain.get("claims")),
        _gain(plain.get("gain")),
        *_zero_cost(plain.get("zero_cost")),
    )


def _zero_cost(plain: Mapping[str, Any] | None) -> tuple[tuple[Ranking, ...], str]:
    """How zero-cost scores rank trained networks, and what that says."""
    if not plain:
        return (), ""
    rankings = tuple(
        Ranking(name, ranking["tau"], _interval(ranking.get("interval")), plain["networks"])
        for name, ranking in plain["rankings"].items()
    )
    return rankings, plain["verdict"]


def _claims(plain: Mapping[str, Any] | None) -> ClaimFacts | None:
    if not plain:
        return None
    rankings = tuple(
        Ranking(ranking["against"], ranking["tau"], _interval(ranking.get("interval")), ranking["networks"])
        for ranking in plain.get("agreements", ())
    )
    return ClaimFacts(plain["engine"], plain["by"], rankings, tuple(plain.get("remarks", ())))


def _gain(plain: Mapping[str, Any] | None) -> GainFacts | None:
    if not plain:
        return None
    return GainFacts(
        plain["ratio"],
        _interval(plain.get("interval")),
        plain["candidates"],
        plain["against"],
        plain.get("effort", ""),
        _gain(plain.get("over_all")),
    )


def _interval(plain: Any) -> tuple[float, float] | None:
    if not plain or any(end is None or end != end for end in plain):
        return None
    low, high = plain
    return low, high
