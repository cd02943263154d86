"""What single parts take: measured, or interpolated where they were not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cached_property

from foundation.errors import ProfileError
from hw_profiles.latency.interpolation import Interpolator
from hw_profiles.latency.parts import Part
from hw_profiles.latency.records import Measured
from hw_profiles.timing.timings import READINGS
from search_spaces.scenario import Scenario


class PartTimes:
    """Milliseconds of parts and their standard deviations, by reading; each is interpolated once.

    `title` is what errors call the table that the entries are of.
    """

    def __init__(self, entries: Mapping[Part, Measured], scenario: Scenario, title: str) -> None:
        self.entries, self._scenario, self._title = entries, scenario, title
        self._times: dict[tuple[Part, str], tuple[float, float]] = {}

    @cached_property
    def interpolator(self) -> Interpolator:
        """Estimates of parts that were not measured."""
        return Interpolator(self.entries, self._scenario)

    def covers(self, part: Part) -> bool:
        """Whether a part was measured, or resembles one that was."""
        return part in self.entries or self._can_interpolate(part)

    def of(self, part: Part, reading: str) -> tuple[float, float]:
        """Milliseconds of a part, and their standard deviation.

        Raises:
            ProfileError: it was not measured, and resembles none that was.
        """
        times = self._times.get((part, reading))
        if times is None:
            measured = self.entries.get(part)
            if measured is not None and reading in measured:
                times = max(0.0, measured[reading].median_ms), measured[reading].standard_error
                self._times[part, reading] = times
            else:
                self.interpolate([part])
                times = self._times[part, reading]
        return times

    def interpolate(self, parts: Iterable[Part]) -> None:
        """Interpolate all of these parts that were not measured at once, which is faster than one by one.

        Raises:
            ProfileError: one was not measured, and resembles none that was.
        """
        distinct = tuple(dict.fromkeys(parts))
        for reading in READINGS:
            missing = [part for part in distinct if self._is_missing(part, reading)]
            for part in missing:
                self._check(part)
            estimates = self.interpolator.estimate(missing, reading)
            for part, estimate in zip(missing, estimates, strict=True):
                self._times[part, reading] = estimate.ms, estimate.error * estimate.ms

    def _is_missing(self, part: Part, reading: str) -> bool:
        return (part, reading) not in self._times and reading not in self.entries.get(part, ())

    def _can_interpolate(self, part: Part) -> bool:
        return part.block is not None and self.interpolator.covers(part)

    def _check(self, part: Part) -> None:
        if not self._can_interpolate(replace(part, position=None)):
            raise ProfileError(
                f"{self._title} has no entry for {part};"
                " profile the space that contains it (profile_space, `nas profile`)"
            )
