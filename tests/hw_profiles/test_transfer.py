"""A table carried over from a similar device errs by what it says, and tables are compared fairly."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest

from foundation.errors import ProfileError
from hw_profiles.latency.comparison import compare
from hw_profiles.latency.parts import Part, block_part, outer
from hw_profiles.latency.records import MeasuredNetwork
from hw_profiles.latency.table import LatencyTable
from hw_profiles.latency.transfer import CARRIED, carried_over, fit_link, most_similar
from hw_profiles.timing.timings import READINGS, Latency
from search_spaces.network.decoder import Decoder, Layer
from tests.hw_profiles.tiny import SCENARIO, Scale, Sum, registered, round_table

WIDTHS = (16, 24, 32, 48, 64, 96, 128)


@pytest.fixture(autouse=True)
def _registered() -> object:
    with registered():
        yield


def times(part: Part) -> float:
    """Milliseconds on the known device."""
    work = part.d_model**1.5 if isinstance(part.block, Sum) else part.d_model
    return 0.01 * work * getattr(part.block, "copies", 1)


def all_parts() -> list[Part]:
    halves = [block_part(Sum(copies=c), w, 16) for c in (1, 2, 4) for w in WIDTHS]
    return [outer(16, w) for w in WIDTHS] + halves + [block_part(Scale(), w, 16) for w in WIDTHS]


def table_of(ms: Callable[[Part], float], parts: list[Part], gpu: str, networks: int = 0) -> LatencyTable:
    """A table of these parts with these times; a network takes the sum of its parts."""
    specs = [
        Decoder(
            vocab=16, d_model=w, layers=(Layer(sequence_mixer=Sum(copies=1 + i % 2), channel_mixer=Scale()),)
        )
        for i, w in enumerate((WIDTHS * networks)[:networks])
    ]

    def whole(spec: Decoder) -> float:
        blocks = [block_part(block, spec.d_model, 16) for block in spec.layers[0].blocks.values()]
        return sum(map(ms, [outer(16, spec.d_model), *blocks]))

    def latency(value: float) -> dict[str, Latency]:
        return {reading: Latency((value,) * 4) for reading in READINGS}

    return replace(
        round_table(),
        entries={part: latency(ms(part)) for part in parts},
        networks=tuple(MeasuredNetwork(s, i % 2 == 1, latency(whole(s))) for i, s in enumerate(specs)),
        fingerprint={"gpu": gpu},
        corrections={},
        accuracies={},
    )


def slower(noise: float = 0.0, seed: int = 0) -> Callable[[Part], float]:
    """Another device: three times slower, sums half as much again, larger blocks a little more."""

    def ms(part: Part) -> float:
        dice = Random(f"{seed}{part}")
        factor = 3.0 * (1.5 if isinstance(part.block, Sum) else 1.0)
        return factor * times(part) ** 1.03 * math.exp(dice.gauss(0, noise))

    return ms


def some(parts: list[Part], every: int = 3) -> list[Part]:
    return [part for part in parts if part.block is None] + [p for p in parts if p.block][::every]


def test_blocks_that_were_not_measured_are_carried_over_within_the_error_that_is_stated() -> None:
    parts, ms = all_parts(), slower(noise=0.02)
    known, short = table_of(times, parts, "old"), table_of(ms, some(parts), "new", networks=14)
    table = carried_over([known], short)
    left = [part for part in parts if part not in short.entries]
    assert len(left) > 15
    errors = []
    for part in left:
        latency = table.entries[part]["prefill_ms"]
        errors.append(abs(latency.median_ms / ms(part) - 1))
        assert latency.unsettled is not None
        assert CARRIED in latency.unsettled
        assert "old" in latency.unsettled
        assert 0.01 < latency.standard_error / latency.median_ms < 0.2
    assert sum(errors) / len(errors) < 0.05
    link = fit_link(known, short, "prefill_ms")
    assert link.error < 0.08
    assert sorted(errors)[len(errors) // 2] < 2 * link.error
    accuracy = table.accuracies["decode_ms"]
    assert accuracy.n == 7
    assert accuracy.mape is not None
    assert accuracy.mape < 0.05


def test_measured_blocks_stay_as_they_were_measured() -> None:
    parts = all_parts()
    short = table_of(slower(), some(parts), "new")
    table = carried_over([table_of(times, parts, "old")], short)
    for part, measured in short.entries.items():
        assert table.entries[part] == measured
        assert measured["prefill_ms"].unsettled is None
    assert table.fingerprint == {"gpu": "new"}
    note = table.provenance.notes[-1]
    assert f"{len(parts) - len(short.entries)} blocks are carried over from the table of old" in note


def test_the_most_similar_device_is_chosen() -> None:
    parts, ms = all_parts(), slower()
    strange = table_of(lambda part: times(part) * Random(str(part)).uniform(0.2, 5.0), parts, "strange")
    known = table_of(times, parts, "similar")
    short = table_of(ms, some(parts), "new")
    assert most_similar([strange, known], short)[0] is known
    assert most_similar([known, strange], short)[0] is known
    strange_error = fit_link(strange, short, "prefill_ms").error
    assert strange_error > 5 * fit_link(known, short, "prefill_ms").error


def test_the_error_grows_with_the_noise() -> None:
    parts = all_parts()
    known = table_of(times, parts, "old")
    quiet, loud = (
        fit_link(known, table_of(slower(n), some(parts), "new"), "prefill_ms") for n in (0.01, 0.3)
    )
    assert loud.error > 3 * quiet.error


def test_tables_with_little_in_common_are_refused() -> None:
    parts = all_parts()
    short = table_of(slower(), parts[:10], "new")
    with pytest.raises(ProfileError, match="shares 4 measured blocks"):
        carried_over([table_of(times, parts[-7:], "old")], short)


def test_a_comparison_tells_ratios_and_circumstances() -> None:
    parts = all_parts()
    one = table_of(times, parts[:20], "old")
    other = table_of(lambda part: 2 * times(part), parts[5:], "new")
    other = replace(other, scenario=replace(SCENARIO, batch=3))
    found = compare(one, other)
    assert found.mean("prefill_ms") == pytest.approx(2)
    assert len(found.ratios["decode_ms"]) == 15
    assert found.alone == (5, len(parts) - 20)
    assert "batch was 1, is 3" in found.circumstances
    assert "gpu was 'old', is 'new'" in found.circumstances
    assert "second over first 2 on average over 15 blocks" in str(found)
    assert found.to_plain()["mean_ratio"]["decode_ms"] == pytest.approx(2)


def test_equal_tables_are_equal_and_strangers_have_nothing_in_common() -> None:
    one = table_of(times, all_parts()[:9], "old")
    same = compare(one, one)
    assert same.circumstances == ""
    assert same.mean("decode_ms") == pytest.approx(1)
    assert compare(one, table_of(times, all_parts()[9:12], "old")).mean("decode_ms") is None
