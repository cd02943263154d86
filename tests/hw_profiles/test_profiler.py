import json

import pytest

from hw_profiles.measure import READINGS
from hw_profiles.parts import parts_of
from hw_profiles.profiler import FEWEST, profile_space, random_networks
from hw_profiles.table import LatencyTable
from search_spaces.choices import one_of
from search_spaces.decoder import Decoder, Layer
from search_spaces.errors import ProfileError
from search_spaces.space import Space
from tests.hw_profiles.tiny import SCENARIO, Sum, registered, small_space


@pytest.fixture(autouse=True)
def _names():
    with registered():
        yield


class Killed(Exception):
    pass


def killer(after):
    """Hears the progress and raises in the midst of it, like Ctrl-C."""

    def progress(stage, done, total):
        if stage == "timing" and done == after:
            raise Killed

    return progress


def always_one_ms(call, repeats):
    call()
    return 1.0


def test_a_real_profile_end_to_end(tmp_path):
    heard = []
    space = small_space()
    table = profile_space(
        space, SCENARIO, seconds=0.5, progress=lambda *news: heard.append(news), partial=tmp_path / "partial"
    )
    assert table.covers(space)
    assert len(table.networks) == 20
    assert [network.held_out for network in table.networks] == [False] * 8 + [True] * 12
    for reading in READINGS:
        assert table.accuracies[reading].n == 12
        assert table.accuracies[reading].mape >= 0
        assert all(
            entry[reading].n >= FEWEST and entry[reading].median_ms > 0 for entry in table.entries.values()
        )
        assert all(predicted > 0 for _, predicted, _ in table.scatter(reading))
    assert next(stage for stage, done, total in heard if done == total) == "building"
    assert heard[-1][0] == "timing"
    table.save(tmp_path / "table.json")
    assert LatencyTable.load(tmp_path / "table.json", SCENARIO).to_plain() == table.to_plain()
    assert [path.name for path in tmp_path.iterdir()] == ["table.json"]


def test_known_times_are_fitted():
    table = profile_space(small_space(), SCENARIO, seconds=0, timer=always_one_ms)
    assert {entry["decode_ms"].median_ms for entry in table.entries.values()} == {1.0}
    assert table.provenance.rounds == FEWEST
    assert table.provenance.reference_ms == 1.0
    # every network takes one, whatever the sum of its parts: the line is as flat as the prior lets it be
    for network in table.networks:
        assert table.predict(network.spec)["prefill_ms"][0] == pytest.approx(1.0, abs=0.3)
    for reading in READINGS:
        off = [
            abs(predicted / measured - 1)
            for network, predicted, measured in table.scatter(reading)
            if network.held_out
        ]
        assert table.accuracies[reading].mape == pytest.approx(sum(off) / len(off), abs=1e-6)


def test_too_little_time_is_noted():
    table = profile_space(small_space(), SCENARIO, seconds=0, timer=always_one_ms)
    assert "0 s do not suffice: 11 rounds took" in table.provenance.notes[0]
    assert "note: 0 s do not suffice" in str(table)


def test_a_killed_profile_goes_on(tmp_path):
    space, partial = small_space(), tmp_path / "partial.json"
    with pytest.raises(Killed):
        profile_space(space, SCENARIO, seconds=0, progress=killer(4), partial=partial)
    kept = json.loads(partial.read_text())
    assert {len(ratios) for ratios in kept["ratios"].values()} == {4}
    rounds = []
    table = profile_space(
        space,
        SCENARIO,
        seconds=0,
        partial=partial,
        progress=lambda stage, done, total: rounds.append(done) if stage == "timing" else None,
    )
    assert rounds == list(range(5, FEWEST + 1))
    assert table.provenance.rounds == FEWEST
    assert table.provenance.seconds >= round(kept["seconds"], 1)
    assert not partial.exists()


def test_what_was_timed_for_something_else_is_not_mixed_in(tmp_path):
    partial = tmp_path / "partial.json"
    with pytest.raises(Killed):
        profile_space(small_space(), SCENARIO, seconds=0, progress=killer(4), partial=partial)
    rounds = []
    profile_space(
        small_space(),
        SCENARIO,
        seconds=0,
        seed=1,
        timer=always_one_ms,
        partial=partial,
        progress=lambda stage, done, total: rounds.append(done) if stage == "timing" else None,
    )
    assert rounds[0] == 1


def test_a_file_of_something_else_is_left_alone(tmp_path):
    partial = tmp_path / "thesis.json"
    partial.write_text("{}")
    with pytest.raises(ProfileError, match="is no unfinished profile"):
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


def test_random_networks_differ_in_their_parts_and_repeat():
    space = small_space()
    networks = random_networks(space, 3)
    assert networks == random_networks(space, 3) != random_networks(space, 4)
    assert len({tuple(sorted(map(str, parts_of(spec)))) for spec in networks}) == len(networks) == 20


def test_only_decoders_are_profiled():
    with pytest.raises(ProfileError, match="not of Sum"):
        profile_space(Space(Sum(copies=one_of(1, 2))), SCENARIO)
