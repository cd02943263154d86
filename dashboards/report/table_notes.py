"""Remarks on a latency table, for readers who have not seen how it was measured: what each means."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dashboards.report.html import Child, code

WARNING = "WARNING: "
"""How a note begins that a reader must not miss."""

ADVICE: tuple[Child, ...] = (
    "For smaller errors of latencies, start a study under another name on a machine that does nothing else,"
    " and let it measure longer: ",
    code("--profile-seconds"),
    ".",
)


@dataclass(frozen=True)
class Note:
    """A remark as sentences; `improvable` says that a longer or quieter measurement would help."""

    text: str
    warning: bool = False
    improvable: bool = False


MEANINGS = (
    (
        r"(?P<known>\d+) of (?P<all>\d+) parts were measured, the others are interpolated",
        "{known} of {all} blocks were measured; the latencies of the others are interpolated between them.",
    ),
    (
        r"time ran out while interpolation was expected to err by (?P<error>[\d.]+ %)",
        "The time for measuring ran out early: interpolated latencies of blocks are off by about {error}.",
    ),
    (
        r"(?P<given>\d+) s were too few: what must be measured took (?P<took>\d+) s",
        "The {given} s given for measuring were too few: what must be measured took {took} s, so that no"
        " further blocks were measured.",
    ),
    (
        r"only (?P<found>\d+) different networks were found: (?P<fit>\d+) fit the correction, (?P<test>\d+)"
        r" tests? it",
        "The space has only {found} different networks to measure: {fit} correct the predictions, and the"
        " error above is that of the other {test}.",
    ),
    (
        r"disturbed in (?P<batches>\d+) batches, the last time: (?P<why>.*)",
        "Something disturbed {batches} batches of measurements (the last time: {why}). Latencies measured"
        " then are less exact.",
    ),
    (
        r"(?P<some>\d+) of (?P<all>\d+) latencies did not settle: (?P<why>.*)",
        "{some} of {all} measured latencies still varied when their time was up ({why}). Predictions from"
        " them are less exact, and their ± is wider.",
    ),
)
"""Patterns of notes, and what they mean."""

ESTIMATE = re.compile(
    r"ESTIMATE by roofline from (?P<peaks>.*?), nothing was timed: (?P<card>.*); an estimate is .*"
)

TOLD = (
    "this latency table errs on held-out networks",
    "this latency table was measured on another machine",
)
"""Warnings that the page words itself, beside the numbers that they concern."""


def explained(note: str) -> Note:
    """A note for a reader; without text where the page says the same elsewhere."""
    warning, plain = note.startswith(WARNING), note.removeprefix(WARNING).rstrip(".")
    if warning and plain.startswith(TOLD):
        return Note("", improvable=plain.startswith(TOLD[0]))
    if found := ESTIMATE.fullmatch(plain):
        return Note("The card holds {peaks}: {card}.".format(**found.groupdict()))
    for pattern, meaning in MEANINGS:
        if found := re.fullmatch(pattern, plain):
            return Note(meaning.format(**found.groupdict()), improvable=True)
    if plain.partition(" ")[0].isalpha():  # names such as decode_ms stay as they are
        plain = plain[:1].upper() + plain[1:]
    return Note(f"{plain}.", warning)
