"""More samples for a table that errs: where it is least certain, until it errs less or the time is up.

On a noisy machine a few samples of a part, or of a whole network, may be far off. So networks whose own
latency is least certain are timed again, and parts by their share in the uncertainty of networks: those that
were never timed, and those of which the samples disagree. What a network's prediction errs by does not decide
whether that network is timed again; that would choose the samples that please. New samples join the earlier
ones in the log, so that a profile which is killed meanwhile loses none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from foundation.text import percent
from hw_profiles.latency.interpolation import Interpolator
from hw_profiles.latency.parts import Part
from hw_profiles.latency.selection import expected_errors, most_uncertain
from hw_profiles.latency.session import NETWORKS_AT_ONCE, ProfileSession, network_key
from hw_profiles.latency.table import LatencyTable
from search_spaces.network.decoder import Decoder

MORE_TIME = 1.0
"""How long retakes may take, in units of the seconds of the profile."""

PATIENCE = 3
"""Steps without a smaller error, after which more samples are taken not to help."""


@dataclass(frozen=True, kw_only=True)
class Retakes:
    """What may be timed again, and the readings whose error on held-out networks matters."""

    session: ProfileSession
    networks: Sequence[Decoder]
    parts: Sequence[Part]
    usage: Mapping[Part, float]
    readings: Sequence[str]

    def improved(self, made: Callable[[], LatencyTable]) -> tuple[LatencyTable, tuple[str, ...]]:
        """The best table that `made` gives of the samples so far, now and after each retake; and a note."""
        session = self.session
        best = first = made()
        began, without = session.used, 0
        session.seconds *= 1 + MORE_TIME
        while self.error(best) and without < PATIENCE and session.left > session.batch_seconds:
            self._retake(best)
            table = made()
            best, without = (table, 0) if self.error(table) < self.error(best) else (best, without + 1)
        session.seconds /= 1 + MORE_TIME
        if session.used - began < 0.1 or not self.error(first):
            return best, ()
        note = (
            f"measured again for {session.used - began:.0f} s where it was least certain: before, it erred by"
            f" {percent(self.error(first))} on held-out networks"
        )
        return best, (note,)

    def error(self, table: LatencyTable) -> float:
        """The largest error of a reading that matters; nothing where none exceeds 10 %."""
        return max((mape for name, mape in table.rough.items() if name in self.readings), default=0.0)

    def _retake(self, table: LatencyTable) -> None:
        session, error = self.session, self.error(table)
        stage = f"held-out error {percent(error)}: timing again"
        session.progress(stage, *self._done())
        restless = self._restless_networks()
        for start in range(0, len(restless), NETWORKS_AT_ONCE):
            session.retake_networks(restless[start : start + NETWORKS_AT_ONCE])
            session.progress(stage, *self._done())
        interpolator = Interpolator(table.entries, session.scenario)
        _, shares = expected_errors(self.parts, self.usage, interpolator, {})
        session.retake_parts(most_uncertain(shares, session.effort.parts))

    def _done(self) -> tuple[int, int]:
        return min(999, int(1000 * self.session.used / max(self.session.seconds, 1e-9))), 1000

    def _restless_networks(self) -> list[Decoder]:
        """The networks whose own latency is least certain, as far as it has not settled."""
        found = {}
        for spec in self.networks:
            known = self.session.latencies(network_key(spec))
            found[spec] = max((known[reading].uncertainty for reading in self.readings), default=0.0)
        restless = [spec for spec in found if found[spec] > self.session.effort.within]
        return sorted(restless, key=lambda spec: -found[spec])
