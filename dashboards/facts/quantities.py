"""Quantities for readers: labels, units and a sensible number of digits."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from foundation.text import significant, with_error
from nas.study.trial import Value

QUALITY = "bits_per_byte"
"""The quality of language models, in which they compare with compressors."""

LABELS = {
    "bits_per_byte": "bits per byte",
    "prefill_ms": "prefill latency",
    "decode_ms": "decode latency per token",
    "weight_bytes": "weights",
    "state_bytes": "decode state",
    "state_bytes_per_token": "decode state per token",
    "params": "parameters",
    "prefill_flops": "prefill work",
    "decode_flops": "decode work per token",
    "peak_bytes": "peak memory",
    "prefill_peak_bytes": "peak memory of prefill",
    "decode_peak_bytes": "peak memory of decode",
    "served_tokens_per_s": "served tokens",
    "ttft_p50_ms": "time to first token, median",
    "ttft_p95_ms": "time to first token, 95th percentile",
    "tpot_p50_ms": "time per token served, median",
    "tpot_p95_ms": "time per token served, 95th percentile",
}
TIMES = "\N{MULTIPLICATION SIGN}"

PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
DIMENSIONS = {"bytes": "B", "FLOPs": "FLOP", "": ""}
"""Units that take prefixes, with their symbols; others are written as they are."""

BEST_CLAUSES = {
    "bits_per_byte": "the best reaches",
    "weight_bytes": "the smallest weighs",
    "decode_ms": "the fastest decodes a token in",
    "prefill_ms": "the fastest reads the prompt in",
    "state_bytes": "the smallest decode state has",
    "params": "the smallest has",
}


@dataclass(frozen=True)
class Quantity:
    """A named number with its unit and the direction in which it improves.

    `scored` says that it is the quality of networks, the score of a task: trained for, with an error.
    """

    name: str
    unit: str = ""
    maximise: bool = False
    scored: bool = False

    @property
    def axis_title(self) -> str:
        """Its title at an axis where it is written without a prefix."""
        return self.title("" if self.unit == self.label else self.unit)

    @property
    def label(self) -> str:
        """Its name in a sentence or at an axis, without the unit."""
        name, at, scenario = self.name.partition("@")
        return LABELS.get(name, name.replace("_", " ")) + (f" ({scenario})" if at else "")

    @property
    def plain(self) -> Quantity:
        """The same without its scenario."""
        return replace(self, name=self.name.partition("@")[0])

    def scale(self, values: Iterable[float]) -> tuple[float, str]:
        """A divisor that makes these numbers easy to read, and their unit after the division."""
        if self.unit not in DIMENSIONS:
            return 1.0, "" if self.unit == self.label else self.unit
        largest = max((abs(value) for value in values), default=0.0)
        size, prefix = next(((size, prefix) for size, prefix in PREFIXES if largest >= size), (1.0, ""))
        return size, prefix + DIMENSIONS[self.unit]

    def title(self, unit: str, known: str = "") -> str:
        """The title of an axis in `unit`; `known` says how its numbers are known."""
        _, at, scenario = self.name.partition("@")
        label = ", ".join([self.plain.label, *([scenario] if at else []), *([known] if known else [])])
        return f"{label} ({unit})" if unit else label

    def text(self, value: float, error: float | None = None) -> str:
        """One number with its unit, and its standard error where there is one."""
        factor, unit = self.scale([value])
        scaled = value / factor
        if error is None:
            number = f"{scaled:.0f}" if factor == 1 and self._counted else significant(scaled, self._digits)
        else:
            number = with_error(scaled, error / factor)
        return f"{number} {unit}".rstrip()

    def of(self, value: Value) -> str:
        """A stored value with its unit, its standard error and its marks."""
        return value.marked(self.text(value.value, value.error))

    @property
    def words(self) -> str:
        """What follows a number of it in a sentence."""
        return self.unit or self.label

    def said(self, value: Value) -> str:
        """A score in a sentence: `1.900 ± 0.020 bits per byte`."""
        return f"{with_error(value.value, value.error or 0.0)} {self.words}"

    def best(self, value: Value) -> str:
        """The clause of a headline about the best value of a front."""
        name, at, scenario = self.name.partition("@")
        clause = BEST_CLAUSES.get(name, f"the best {self.plain.label} is")
        tail = {"bits_per_byte": " bits per byte", "params": " parameters"}.get(name, "")
        where = f" ({scenario})" if at else ""
        return f"{clause} {value.marked(self.text(value.value, value.error) + tail)}{where}"

    @property
    def _digits(self) -> int:
        return 4 if self.name == "bits_per_byte" else 3

    @property
    def _counted(self) -> bool:
        return self.unit in DIMENSIONS and (self.unit != "" or self.name in LABELS)
