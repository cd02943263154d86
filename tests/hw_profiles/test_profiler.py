import json
from contextlib import contextmanager
from functools import partial as partial_of

import pytest

from foundation.errors import ProfileError
from hw_profiles.fingerprint import fingerprint
from hw_profiles.latency import profiler, transfer
from hw_profiles.latency.parts import parts_in, parts_of
from hw_profiles.latency.profiler import (
    FITTED_NETWORKS,
    HELD_OUT_NETWORKS,
    profile_space,
    random_networks,
)
from hw_profiles.latency.session import Effort
from hw_profiles.latency.table import LatencyTable
from hw_profiles.latency.transfer import transfer_table
from hw_profiles.timing.timers import Timing
from hw_profiles.timing.timings import READINGS
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.choices import one_of, repeat
from search_spaces.language.space import Space
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.scenario import Scenario
from tests.hw_profiles.tiny import SCENARIO, Sum, registered, small_space

FEWEST = Effort.of(SCENARIO).fewest


@pytest.fixture(autouse=True)
def _names():
    with registered():
        yield


class Killed(Exception):
    pass


def killer(after):
    """Hears the progress and raises in the midst of it, like Ctrl-C."""
    heard = []

    def progress(stage, done, total):
        heard.append(stage)
        if heard.count("timing parts") == after:
            raise Killed

    return progress


def always_one_ms(call, repeats):
    call()
    return Timing(1.0, 1.0)


def counted(timer=always_one_ms):
    """A timer, and how often it was read."""
    calls = []

    def count(call, repeats):
        calls.append(call)
        return timer(call, repeats)

    return count, calls


def wide_space():
    layer = Layer(
        sequence_mixer=Attention(num_heads=one_of(1, 2, 4), num_kv_heads=1, head_dim=one_of(2, 4)),
        channel_mixer=SwiGLU(expansion=one_of(1, 2, 3, 4)),
    )
    widths = one_of(4, 8, 12, 16, 24)
    return Space(Decoder(vocab=16, d_model=widths, layers=repeat(layer, (1, 2))), name="wide")


def test_a_real_profile_end_to_end(tmp_path):
    heard = []
    space = small_space()
    table = profile_space(
        space, SCENARIO, seconds=2, progress=lambda *news: heard.append(news), partial=tmp_path / "partial"
    )
    assert table.covers(space)
    assert set(table.entries) == set(parts_in(space))
    assert [network.held_out for network in table.networks] == [False] * FITTED_NETWORKS + [
        True
    ] * HELD_OUT_NETWORKS
    for reading in READINGS:
        assert table.accuracies[reading].n == HELD_OUT_NETWORKS
        assert all(
            entry[reading].n >= FEWEST and len(entry[reading].wall_ms) == entry[reading].n
            for entry in table.entries.values()
        )
        assert all(predicted > 0 for _, predicted, _ in table.scatter(reading))
    assert heard[0][0] == "timing networks"
    assert "timing parts" in [stage for stage, *_ in heard]
    assert set(table.provenance.overheads) == {"8"}
    assert table.provenance.reference_ms > 0
    table.save(tmp_path / "table.json")
    assert LatencyTable.load(tmp_path / "table.json", SCENARIO).to_plain() == table.to_plain()
    assert [path.name for path in tmp_path.iterdir()] == ["table.json"]


def test_known_times_are_fitted():
    table = profile_space(small_space(), SCENARIO, seconds=0, timer=always_one_ms)
    assert table.provenance.rounds == FEWEST
    assert table.provenance.reference_ms == 1.0
    halves = [entry for part, entry in table.entries.items() if part.block is not None]
    assert {entry["decode_ms"].median_ms for entry in halves} == {0.0}  # three copies take as long as one
    assert table.provenance.overheads == {"8": {"prefill_ms": 1.0, "decode_ms": 1.0}}
    for network in table.networks:
        assert table.predict(network.spec)["prefill_ms"][0] == pytest.approx(1.0, abs=0.02)
    for reading in READINGS:
        off = [
            abs(predicted / measured - 1)
            for network, predicted, measured in table.scatter(reading)
            if network.held_out
        ]
        assert table.accuracies[reading].mape == pytest.approx(sum(off) / len(off), abs=1e-6)


def test_a_large_space_is_measured_in_part_and_covered_whole():
    space, scenario = wide_space(), Scenario(prompt=16, new_tokens=8)
    table = profile_space(space, scenario, seconds=0)
    parts = parts_in(space)
    assert len(table.entries) < len(parts) / 2
    assert {part.kind for part in table.entries} == {"", "Attention", "SwiGLU"}
    assert table.covers(space)
    for spec in random_networks(space, 7, 5):
        for ms, error in table.predict(spec).values():
            assert 0 < error < ms
    assert any("parts were measured, the others are interpolated" in n for n in table.provenance.notes)


@pytest.mark.slow
def test_a_profile_stops_when_its_target_is_met_and_goes_on_when_it_is_not():
    space, scenario = wide_space(), Scenario(prompt=16, new_tokens=8)
    easy, hard = (
        profile_space(space, scenario, seconds=60, target=target, timer=always_one_ms)
        for target in (10.0, 0.0)
    )
    parts = set(parts_in(space))
    assert len(parts & set(easy.entries)) < len(parts) == len(parts & set(hard.entries))


def test_growing_states_are_timed_at_several_positions():
    table = profile_space(wide_space(), Scenario(prompt=16, new_tokens=8), seconds=60, timer=always_one_ms)
    moved = [part for part in table.entries if part.position is not None]
    assert {part.position for part in moved} == {4, 23}
    assert all(set(table.entries[part]) == {"decode_ms"} for part in moved)
    spec = random_networks(wide_space(), 0, 1)[0]
    assert table.predict(spec, position=20)["decode_ms"][0] > 0


@pytest.mark.slow
def test_a_killed_profile_goes_on(tmp_path):
    space, partial = wide_space(), tmp_path / "partial.jsonl"
    scenario = Scenario(prompt=16, new_tokens=8)
    with pytest.raises(Killed):
        profile_space(
            space, scenario, seconds=60, target=0, progress=killer(2), partial=partial, timer=always_one_ms
        )
    kept = [json.loads(line) for line in partial.read_text().splitlines()]
    known = {entry.get("key") for entry in kept}
    assert (
        sum(key is not None and key.startswith("network/") for key in known)
        == FITTED_NETWORKS + HELD_OUT_NETWORKS
    )
    measured = sum(key is not None and key.startswith("part/") for key in known)
    assert Effort.of(scenario).parts < measured <= 2 * Effort.of(scenario).parts
    timer, resumed = counted()
    table = profile_space(space, scenario, seconds=60, target=0, partial=partial, timer=timer)
    timer, whole = counted()
    other = profile_space(space, scenario, seconds=60, target=0, timer=timer)
    assert len(resumed) < 0.8 * len(whole)
    assert set(table.entries) == set(other.entries)
    assert table.provenance.seconds >= max(e["value"] for e in kept if e.get("key") == "seconds") - 0.1
    assert not partial.exists()


@pytest.mark.slow
def test_a_killed_transfer_goes_on(tmp_path, monkeypatch):
    space, partial = small_space(), tmp_path / "partial.jsonl"
    known = profile_space(space, SCENARIO, seconds=60, timer=always_one_ms)
    monkeypatch.setattr(transfer, "carried_over", lambda _, short, **__: short)  # constant times tell nothing

    def timed_by(timer, **others):
        monkeypatch.setattr(transfer, "profile_space", partial_of(profile_space, timer=timer))
        return transfer_table(known, space, SCENARIO, seconds=0, partial=partial, **others)

    with pytest.raises(Killed):
        timed_by(always_one_ms, progress=killer(1))
    kept = [json.loads(line).get("key", "") for line in partial.read_text().splitlines()]
    assert any(key.startswith("part/") for key in kept)
    timer, resumed = counted()
    table = timed_by(timer)
    assert not partial.exists()
    timer, whole = counted()
    assert set(table.entries) == set(timed_by(timer).entries)
    assert len(resumed) < len(whole) / 2


@pytest.mark.slow
def test_a_transfer_without_enough_in_common_keeps_what_it_measured(tmp_path, monkeypatch):
    space, partial = small_space(), tmp_path / "partial.jsonl"
    known = profile_space(space, SCENARIO, seconds=60, timer=always_one_ms)  # constant times tell nothing
    monkeypatch.setattr(transfer, "profile_space", partial_of(profile_space, timer=always_one_ms))
    with pytest.raises(ProfileError, match="profile the space whole instead"):
        transfer_table(known, space, SCENARIO, seconds=0, partial=partial, output=tmp_path / "table.json")
    assert not (tmp_path / "table.json").exists()
    timer, resumed = counted()
    profile_space(space, SCENARIO, seconds=0, partial=partial, timer=timer)
    assert resumed == []


def test_a_profile_that_was_measured_costs_nothing_again(tmp_path, monkeypatch):
    partial = tmp_path / "partial.jsonl"
    monkeypatch.setattr(profiler.SampleLog, "remove", lambda self: None)
    first = profile_space(small_space(), SCENARIO, seconds=60, partial=partial, timer=always_one_ms)
    timer, calls = counted()
    again = profile_space(small_space(), SCENARIO, seconds=60, partial=partial, timer=timer)
    assert calls == []
    assert again.entries == first.entries
    assert again.provenance.seconds == pytest.approx(first.provenance.seconds, abs=1)


def test_samples_go_only_when_the_table_is_on_disk(tmp_path, monkeypatch):
    output, partial = tmp_path / "table.json", tmp_path / "partial.jsonl"
    there = []
    remove = profiler.SampleLog.remove
    monkeypatch.setattr(
        profiler.SampleLog, "remove", lambda self: (there.append(output.exists()), remove(self))
    )
    table = profile_space(
        small_space(), SCENARIO, seconds=0, partial=partial, output=output, timer=always_one_ms
    )
    assert there == [True]
    assert not partial.exists()
    assert LatencyTable.load(output).to_plain() == table.to_plain()


def test_a_profile_that_waited_for_another_one_takes_over_its_samples(tmp_path, monkeypatch):
    partial, undisturbed = tmp_path / "partial.jsonl", profiler.undisturbed

    @contextmanager
    def after_the_other(scenario):
        if not waited:
            waited.append(1)
            with pytest.raises(Killed):
                profile_space(small_space(), SCENARIO, seconds=0, progress=killer(1), partial=partial)
        with undisturbed(scenario):
            yield

    waited = []
    monkeypatch.setattr(profiler, "undisturbed", after_the_other)
    timer, calls = counted()
    profile_space(small_space(), SCENARIO, seconds=0, partial=partial, timer=timer)
    assert calls == []


def test_samples_of_another_torch_or_gpu_are_refused_with_the_reason(tmp_path, monkeypatch):
    partial = tmp_path / "partial.jsonl"
    with pytest.raises(Killed):
        profile_space(small_space(), SCENARIO, seconds=0, progress=killer(1), partial=partial)
    before = partial.read_text()
    for what, value in (("torch", "1.0"), ("gpu", "NVIDIA Abacus")):
        here = {**fingerprint(SCENARIO), what: value}
        monkeypatch.setattr(profiler, "fingerprint", lambda scenario, here=here: here)
        with pytest.raises(ProfileError, match=f"another fingerprint, .* {what} was .*, is '{value}'"):
            profile_space(small_space(), SCENARIO, seconds=0, timer=always_one_ms, partial=partial)
    assert partial.read_text() == before


def test_every_part_is_built_more_than_once_on_a_cpu():
    effort = Effort.of(SCENARIO)
    table = profile_space(small_space(), SCENARIO, seconds=0, timer=always_one_ms)
    halves = [found for part, found in table.entries.items() if part.block is not None]
    assert effort.builds > 1
    assert {found["decode_ms"].n for found in halves} == {effort.builds * effort.fewest}


def test_samples_of_another_scenario_are_refused(tmp_path):
    partial = tmp_path / "partial.jsonl"
    with pytest.raises(Killed):
        profile_space(small_space(), SCENARIO, seconds=0, progress=killer(1), partial=partial)
    with pytest.raises(ProfileError, match=r"another scenario, which must not be mixed.*prompt was 8, is 16"):
        profile_space(small_space(), Scenario(prompt=16, new_tokens=4), seconds=0, partial=partial)


def test_a_file_of_something_else_is_left_alone(tmp_path):
    partial = tmp_path / "thesis.json"
    partial.write_text("{}")
    with pytest.raises(ProfileError, match="is no samples file"):
        profile_space(small_space(), SCENARIO, seconds=0, timer=always_one_ms, partial=partial)
    assert partial.read_text() == "{}"


def test_a_space_of_few_networks_is_profiled_as_well_as_it_can_be():
    layer = Layer(sequence_mixer=Sum(copies=one_of(1, 2)))
    table = profile_space(
        Decoder(vocab=16, d_model=8, layers=(layer,)), SCENARIO, seconds=0, timer=always_one_ms
    )
    assert [network.held_out for network in table.networks] == [True, True]
    assert table.corrections["prefill_ms"].scale == 1.0
    assert any("only 2 different networks" in note for note in table.provenance.notes)


def test_what_did_not_settle_is_marked():
    table = profile_space(small_space(), SCENARIO, seconds=0, settled=0.0)
    marks = [found.unsettled for entry in table.entries.values() for found in entry.values()]
    assert any(mark and "90 % interval" in mark for mark in marks)
    assert any("latencies did not settle" in note for note in table.provenance.notes)
    assert "did not settle" in str(table)


def test_random_networks_differ_in_their_parts_and_repeat():
    space = small_space()
    networks = random_networks(space, 3)
    assert networks == random_networks(space, 3) != random_networks(space, 4)
    assert len({tuple(sorted(map(str, parts_of(spec)))) for spec in networks}) == len(networks)
    assert len(networks) == FITTED_NETWORKS + HELD_OUT_NETWORKS


def test_many_kinds_take_more_networks_where_there_is_time():
    parts = parts_in(wide_space())
    assert profiler._counts(parts, 60.0) == (FITTED_NETWORKS, HELD_OUT_NETWORKS)
    from hw_profiles.latency.parts import block_part
    from search_spaces.blocks.base import blocks

    kinds = [block_part(kind.examples()[0], 24, 16) for kind in blocks.values()]
    assert profiler._counts(kinds, 60.0)[0] == max(FITTED_NETWORKS, min(40, 2 * len(kinds)))
    assert profiler._counts(kinds, 5.0)[0] == FITTED_NETWORKS


def test_only_decoders_are_profiled():
    with pytest.raises(ProfileError, match="not of Sum"):
        profile_space(Space(Sum(copies=one_of(1, 2))), SCENARIO)
