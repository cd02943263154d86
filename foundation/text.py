"""Numbers and lists as people write them: as many digits as mean something, and nouns that agree."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable
from typing import Any

HIDDEN = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
"""Unicode's categories of characters that are not seen: control, format, surrogates, private, separators."""

SHOWN = 80
"""Characters of a value that a message shows."""


def significant(value: float, digits: int = 3) -> str:
    """A number with this many significant digits, exponents only where nothing else is readable."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    magnitude = math.floor(math.log10(abs(value)))
    if not -5 <= magnitude < 9:
        return f"{value:.{digits - 1}e}"
    places = max(0, digits - 1 - magnitude)
    return f"{value:,.{places}f}"


def with_error(value: float, error: float) -> str:
    """A number with its standard error, both to the error's second digit."""
    if not error > 0 or not math.isfinite(error):
        return significant(value, 4)
    places = min(max(0, 1 - math.floor(math.log10(error))), 6)
    return f"{value:,.{places}f} ± {error:.{places}f}"


NAMED_PREFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def number_text(name: str, value: float) -> str:
    """A named number: bytes and counts with prefixes, the rest with four digits; `@SCENARIO` is no matter."""
    name = name.partition("@")[0].removesuffix("_measured")
    if name.endswith(("bytes", "flops", "params", "bytes_per_token")):
        for size, prefix in NAMED_PREFIXES:
            if abs(value) >= size:
                return f"{value / size:.3g} {prefix}" + ("B" if "bytes" in name else "")
    return f"{value:.4g}"


MOST_PERCENT = 10.0
"""The share from which on percents say less than how many times it is."""


def percent(share: float, error: float | None = None, *, places: int = 1) -> str:
    """A share in percent, with its standard error where that shows at this precision.

    From 10 on it is `37.1 times`.
    """
    if MOST_PERCENT <= abs(share) < math.inf:
        return f"{significant(share) if error is None else with_error(share, error)} times"
    if error is None or error < 5e-5:
        return f"{100 * share:.{places}f} %"
    return f"{100 * share:.{places}f} ± {100 * error:.{places}f} %"


def count(number: int, singular: str, plural: str | None = None) -> str:
    """A count with its noun: `1 network`, `1,204 networks`."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def duration(seconds: float) -> str:
    """A span of time in seconds, minutes, hours, days or years."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 72 * 3600:
        return f"{seconds / 3600:.1f} h"
    if seconds < 700 * 86400:
        return f"{seconds / 86400:.0f} days"
    return f"{significant(seconds / 86400 / 365.25, 2)} years"


def size(held: float) -> str:
    """Bytes as people say them: `400 GB`."""
    for unit, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if held >= unit:
            return f"{significant(held / unit, 2)} {name}"
    return f"{held / 1e3:.0f} kB"


def listed(items: Iterable[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    *most, last = list(items) or [""]
    return f"{', '.join(most)} and {last}" if most else last


def rounded(value: float, digits: int = 4) -> float:
    """The number with this many significant digits, for files that people read."""
    return float(f"{value:.{digits}g}")


def harmless(text: str) -> str:
    """Text for a terminal: what would move its cursor, colour it or hide characters is spelled out.

    Control characters (but for tabs and ends of lines) and invisible formatting such as changes of direction.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        c if c in "\n\t" or unicodedata.category(c) not in HIDDEN else ascii(c)[1:-1] for c in text
    )


def one_line(text: str) -> str:
    """Text for a line of a terminal or a cell of a table; see `harmless`."""
    return harmless(" ".join(text.split()) if "\n" in text or "\t" in text else text)


def shown(value: Any) -> str:
    """A value in a message: as Python writes it, but for a long one only its beginning."""
    try:
        text = repr(value)
    except ValueError:  # Python writes no whole number of over 4,300 digits
        return "a number of thousands of digits"
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."
