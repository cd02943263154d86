"""The record of one trial: a candidate, how it was scored, and what came of it.

Records are frozen. A trial is written as RUNNING before its work starts, and replaced by its outcome; the
driver is the only writer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from html import escape
from typing import Any

from foundation.text import significant, with_error
from search_spaces.language.genotype import Genotype

PREDICTED = ("predicted", "estimate", "traced")
"""First words of the sources of numbers that nobody measured or counted."""

PARENTS = "parents"
"""In a trial's memo: the numbers of the trials that it was made of; an empty list where it had none."""

CANDIDATE = "candidate"
"""In the memo of a trial that trains a candidate further: the number of the trial in which that began."""

PROPOSER = "proposer"
"""In a trial's memo: what proposed it, where a strategy has several ways."""

SKILL = "skill"
"""In a trial's memo, by objective: the rank correlation of true values with those that the strategy's model
predicts of each from all others."""

FALLBACK = "fallback"
"""In a trial's memo: the least skill that the model would have needed to be asked."""

STAGES = ("search", "final", "baseline", "repeat", "validate", "scaled", "modified")
"""The parts of a study that have trials: what the strategy asked for, finalists, the baselines that they are
held against, both again with other seeds, what validates it, families that its networks are scaled to, and
what modifiers made of them."""

MEASURED = "_measured"
"""What the names of measurements end in: `decode_ms_measured` is what `decode_ms` predicts."""

ROUGH = ", rough"
"""How the source of a number ends that may be far off: predicted by a table that errs by more than 10 %, or
measured without settling."""

ROUGH_MARK = "?"
"""What stands behind such a number wherever it is printed."""


class TrialState(Enum):
    """The state of a trial."""

    RUNNING = "running"
    COMPLETE = "complete"
    FAILED = "failed"  # the candidate could not be scored: a non-finite loss, a lost worker, a time-out
    INFEASIBLE = "infeasible"  # a constraint is violated: on predicted values, or on a score that is a gate
    ILLEGAL = "illegal"  # the answers do not stand together: no such architecture


@dataclass(frozen=True)
class Value:
    """One number with its standard error, where it came from, and whatever evidence it carries.

    `source` is a word for the reader: "counted", "predicted", "measured", "supernet", "scratch"; that of a
    number which may be far off ends in ", rough".
    `error` is one standard error in the unit of the value; None where the value is exact or no error is
    known. `samples` holds paired evidence where there is some: the score on each validation window, in a
    fixed order, so that two trials can be compared window by window. `figures` hold by path and name what
    else was measured of the network, such as the share of tokens that an expert layer dropped. `curve` holds
    what it was after fewer steps of the same training: pairs of steps and value.
    """

    value: float
    error: float | None = None
    source: str = "counted"
    samples: tuple[float, ...] = ()
    figures: Mapping[str, float] = field(default_factory=dict, hash=False)
    curve: tuple[tuple[int, float], ...] = ()

    @property
    def is_predicted(self) -> bool:
        """Whether nobody measured or counted it: such a number is written with a `~`."""
        return self.source.startswith(PREDICTED)

    @property
    def rough(self) -> bool:
        """Whether it may be far off: such a number is written with a `?` behind it."""
        return self.source.endswith(ROUGH)

    @property
    def kept_samples(self) -> tuple[float, ...]:
        """Its samples as they are stored: what must not change by that goes by these."""
        return tuple(round(sample, 5) for sample in self.samples)

    @property
    def rough_mark(self) -> str:
        """What stands behind the number: nothing, or that it is rough."""
        return f" {ROUGH_MARK}" if self.rough else ""

    def marked(self, text: str) -> str:
        """The text of this number with its marks: `~` where it is predicted, `?` where it is rough."""
        return ("~" if self.is_predicted else "") + text + self.rough_mark

    def __str__(self) -> str:
        """`~1.41 ± 0.05`: the number with its standard error and its marks."""
        number = significant(self.value, 4) if self.error is None else with_error(self.value, self.error)
        return self.marked(number)

    def __repr__(self) -> str:
        return f"<Value {self}, {self.source}>"

    def to_json(self) -> dict[str, Any]:
        """Plain values; what is empty is left out."""
        plain: dict[str, Any] = {"value": self.value, "source": self.source}
        if self.error is not None:
            plain["error"] = self.error
        if self.samples:
            plain["samples"] = list(self.kept_samples)
        if self.figures:
            plain["figures"] = dict(self.figures)
        if self.curve:
            plain["curve"] = [[steps, round(value, 5)] for steps, value in self.curve]
        return plain

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Value:
        """The value written by `to_json`.

        Raises:
            ValueError: it is malformed, or a number is not finite.
        """
        if not isinstance(plain, Mapping):
            raise ValueError(f"{plain!r} is not a value")
        value, error, source = plain.get("value"), plain.get("error"), plain.get("source")
        samples, figures = plain.get("samples", ()), plain.get("figures", {})
        if not _finite([value]) or not isinstance(source, str):
            raise ValueError(f"a value is a finite number with its source, got {value!r} and {source!r}")
        if error is not None and not _finite([error]):
            raise ValueError(f"a standard error is a finite number, got {error!r}")
        if not isinstance(samples, (list, tuple)) or not _finite(samples):
            raise ValueError("samples are finite numbers")
        if not isinstance(figures, Mapping) or not _finite(list(figures.values())):
            raise ValueError("figures are finite numbers by name")
        curve = _curve(plain.get("curve", ()))
        return cls(value, error, source, tuple(samples), figures, curve)  # type: ignore[arg-type]


def _curve(pairs: Any) -> tuple[tuple[int, float], ...]:
    """Pairs of steps and a value, from plain values."""
    if not isinstance(pairs, (list, tuple)) or not all(_is_look(pair) for pair in pairs):
        raise ValueError("a curve is of pairs of steps and a finite number")
    return tuple((steps, float(value)) for steps, value in pairs)


def _is_look(pair: Any) -> bool:
    return isinstance(pair, (list, tuple)) and len(pair) == 2 and type(pair[0]) is int and _finite(pair[1:])


def _finite(numbers: Sequence[Any]) -> bool:
    """Whether these are finite numbers (that fit into a float)."""
    return {*map(type, numbers)} <= {int, float} and max(map(abs, numbers), default=0) < math.inf


@dataclass(frozen=True, kw_only=True)
class Fidelity:
    """How much was spent on a score: which evaluator, and its training steps (0 where it needs none)."""

    evaluator: str
    steps: int = 0


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One candidate and its outcome.

    `stage` is the part of the study: "search" (asked by the strategy), "final" (finalists trained
    from scratch), "baseline" (published networks beside them), "repeat" (both with other seeds), "validate"
    (random networks that check the proxy). Numbers count from 0 within a stage. `memo` is what the strategy
    is given back with the outcome, also after a resume. `reused` is the number of the earlier trial of the
    same stage that answered this one. `heard` is how many outcomes the strategy had been told when it
    proposed the candidate, and `told` the place of this outcome among those told, from 0; both are None where
    no strategy proposed it, and in old records.
    """

    number: int
    genotype: Genotype
    fidelity: Fidelity
    seed: int
    stage: str = "search"
    state: TrialState = TrialState.RUNNING
    values: Mapping[str, Value] = field(default_factory=dict)
    reason: str | None = None
    started: float = 0.0
    finished: float | None = None
    worker: str = "driver"
    memo: Mapping[str, Any] = field(default_factory=dict)
    reused: int | None = None
    heard: int | None = None
    told: int | None = None

    @property
    def digest(self) -> str:
        """The architecture's name."""
        return self.genotype.digest

    @property
    def counts(self) -> bool:
        """Whether it is one of the candidates that a plan asks for: it was scored, failed, or met a gate.

        What broke a constraint on predicted values was never scored, so nothing was spent on it. A trial that
        `goes_on` is of a candidate that counts already.
        """
        if self.goes_on:
            return False
        if self.state is TrialState.INFEASIBLE:
            return any(value.samples for value in self.values.values())
        return self.state in (TrialState.COMPLETE, TrialState.FAILED)

    @property
    def goes_on(self) -> bool:
        """Whether it trains a candidate further that an earlier trial began with."""
        return isinstance(self.memo.get(CANDIDATE), int)

    @property
    def candidate(self) -> int:
        """The number of the trial in which its candidate began: its own, unless it `goes_on`."""
        return int(self.memo[CANDIDATE]) if self.goes_on else self.number

    def losses(self, goals: Sequence[tuple[str, bool]]) -> tuple[float, ...]:
        """Its values of objectives, turned so that smaller is better; `goals` say which are maximised."""
        return tuple(
            -self.values[name].value if maximised else self.values[name].value for name, maximised in goals
        )

    def __repr__(self) -> str:
        stage = "" if self.stage == "search" else f" ({self.stage})"
        outcome = self.reason or ", ".join(f"{name} {self.values[name]}" for name in list(self.values)[:4])
        more = ", …" if not self.reason and len(self.values) > 4 else ""
        colon = ": " if outcome else ""
        return f"<Trial {self.number}{stage} {self.digest} {self.state.value}{colon}{outcome}{more}>"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{escape(name)}</td><td>{escape(str(value))}</td><td>{escape(value.source)}</td></tr>"
            for name, value in self.values.items()
        )
        about = f"trial {self.number} ({self.stage}), {self.digest}: {self.state.value}"
        why = f"<p>{escape(self.reason)}</p>" if self.reason else ""
        return f"<p>{escape(about)}</p>{why}<table>{rows}</table>"

    def summary(self, name: str) -> str:
        """One line about the trial: its digest with the value of this name, or why it has none."""
        if self.reason:
            return f"{self.digest} {self.state.value}: {self.reason}"
        value = self.values.get(name)
        return f"{self.digest} {name} {value.value:.4g}{value.rough_mark}" if value else self.digest
