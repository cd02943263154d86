"""What a training would take by every method, on as many processes as were asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from evaluators.training.parallel.course import Course
from evaluators.training.parallel.memory import Held, Trace, most_held, trace_of
from evaluators.training.parallel.parallel import Parallel
from foundation.errors import SettingError

FORMS = ("dp={n}", "dp={n},dp.zero=1", "fsdp={n},fsdp.reshard=false", "fsdp={n}", "tp={n}", "pp={n}")
"""Each method alone, on n processes."""


@dataclass(frozen=True)
class Planned:
    """A way to share a training, with what the fullest process holds, or why it cannot be shared so."""

    parallel: Parallel
    held: Held | None
    why_not: str = ""


def plans_of(course: Course) -> Iterator[Planned]:
    """As the course says, then each method alone on as many processes, each once."""
    count = course.parallel.count
    texts = [str(course.parallel), *(form.format(n=count) for form in FORMS if count > 1)]
    traces: dict[int, Trace] = {}
    for parallel in dict.fromkeys(map(Parallel.parse, texts)):
        pieces = max(course.accumulate, parallel.least_pieces)
        other = replace(course, parallel=parallel, accumulate=pieces)
        degree = parallel.of("tp").degree
        try:
            other.check()
            if degree not in traces:
                traces[degree] = trace_of(other)
            yield Planned(parallel, most_held(other, traces[degree]))
        except SettingError as error:
            yield Planned(parallel, None, str(error))
