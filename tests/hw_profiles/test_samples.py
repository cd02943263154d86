import json
import math

import pytest

from foundation.errors import ProfileError
from hw_profiles.fingerprint import fingerprint
from hw_profiles.timing.sample_log import SampleLog
from hw_profiles.timing.timings import Latency
from search_spaces.scenario import Scenario
from tests.hw_profiles.tiny import SCENARIO

MACHINE = fingerprint(SCENARIO)


def test_latency_summaries():
    latency = Latency((1.0, 2.0, 3.0, 4.0, 5.0))
    assert (latency.median_ms, latency.n) == (3.0, 5)
    assert latency.spread == pytest.approx(2 / 3)
    assert latency.standard_error == pytest.approx(2.0)  # ranks 0 and 4


def test_standard_error_of_the_median_shrinks_with_the_samples():
    few, many = (Latency(tuple(i / n for i in range(n))) for n in (11, 101))
    # the median of n uniform samples has a standard deviation of about 1 / (2 sqrt(n))
    assert many.standard_error == pytest.approx(0.05, rel=0.3)
    assert few.standard_error > 2 * many.standard_error


def test_one_sample_has_no_error():
    latency = Latency((2.0,))
    assert (latency.spread, latency.standard_error) == (0.0, math.inf)
    assert latency.summary()["standard_error_ms"] is None


@pytest.mark.parametrize("samples", [(0.0, 0.0, 0.0), (-1.0, 0.0, 2.0), (-2.0, -1.0, 1.0)])
def test_a_difference_of_nothing_can_be_kept(samples):
    latency = Latency(samples)
    assert (latency.spread, latency.uncertainty) == (math.inf, math.inf)
    plain = json.loads(json.dumps(latency.to_plain(), allow_nan=False))
    assert plain["spread"] is None
    assert Latency.from_plain(plain) == latency


def test_rounding_keeps_significant_digits():
    assert Latency((0.00123456789, 123456.0)).rounded().samples_ms == (0.0012346, 123460.0)


def test_the_interval_holds_the_median_and_narrows():
    few, many = (Latency(tuple(1 + i / n for i in range(n))) for n in (11, 201))
    for latency in (few, many):
        low, high = latency.interval_ms
        assert low < latency.median_ms < high
        assert latency.uncertainty == pytest.approx((high - low) / 2 / latency.median_ms)
    # 90 % of a normal with a standard deviation of 1 / (2 sqrt(n))
    assert many.uncertainty == pytest.approx(1.645 / (2 * math.sqrt(201)) / 1.5, rel=0.25)
    assert few.uncertainty > 2 * many.uncertainty
    assert Latency((2.0,)).uncertainty == math.inf


def test_a_latency_survives_json():
    for latency in (Latency((1.0, 2.0)), Latency((1.0, 2.0), (3.0, 4.0), "a neighbour")):
        again = Latency.from_plain(json.loads(json.dumps(latency.to_plain())))
        assert (again, again.wall_ms, again.unsettled) == (latency, latency.wall_ms, latency.unsettled)
    assert Latency.from_plain({"samples_ms": [1, 2]}) == Latency((1.0, 2.0))  # as older tables have it
    with pytest.raises(ValueError, match="without samples"):
        Latency.from_plain({"samples_ms": []})


def test_what_was_kept_is_there_again(tmp_path):
    path = tmp_path / "deep" / "samples.jsonl"
    log = SampleLog(path, SCENARIO, MACHINE)
    log.add("a", [1.5])
    log.add("b", {"x": 2})
    assert SampleLog(path, SCENARIO, MACHINE).known == {"a": [1.5], "b": {"x": 2}}
    log.remove()
    assert SampleLog(path, SCENARIO, MACHINE).known == {}


def test_a_line_cut_short_is_forgotten_and_the_file_goes_on(tmp_path):
    path = tmp_path / "samples.jsonl"
    SampleLog(path, SCENARIO, MACHINE).add("a", 1)
    with path.open("a") as file:
        file.write('{"key": "b", "val')
    log = SampleLog(path, SCENARIO, MACHINE)
    assert log.known == {"a": 1}
    log.add("c", 3)
    assert SampleLog(path, SCENARIO, MACHINE).known == {"a": 1, "c": 3}


@pytest.mark.parametrize(
    ("scenario", "machine", "message"),
    [
        (SCENARIO, {**MACHINE, "torch": "1.0"}, "another fingerprint.*torch was '[^']+', is '1.0'"),
        (SCENARIO, {**MACHINE, "gpu": "NVIDIA Abacus"}, "another fingerprint.*gpu was None, is 'NVIDIA"),
        (SCENARIO, {**MACHINE, "threads": 7}, "another fingerprint.*threads was 1, is 7"),
        (Scenario(), MACHINE, "another scenario.*prompt was 8, is 256"),
    ],
)
def test_samples_of_other_circumstances_are_refused(tmp_path, scenario, machine, message):
    path = tmp_path / "samples.jsonl"
    SampleLog(path, SCENARIO, MACHINE).add("a", 1)
    with pytest.raises(ProfileError, match=message):
        SampleLog(path, scenario, machine)
    assert SampleLog(path, SCENARIO, MACHINE).known == {"a": 1}


@pytest.mark.parametrize(
    ("version", "message"), [(1, "whose decode steps were"), (3, "of version 3 and not")]
)
def test_samples_that_were_timed_otherwise_are_not_gone_on_with(tmp_path, version, message):
    path = tmp_path / "samples.jsonl"
    SampleLog(path, SCENARIO, MACHINE).add("a", 1)
    head, *rest = path.read_text().splitlines(keepends=True)
    path.write_text(json.dumps({**json.loads(head), "version": version}) + "\n" + "".join(rest))
    with pytest.raises(ProfileError, match=f"{message}.*; name another file, or remove it"):
        SampleLog(path, SCENARIO, MACHINE)


@pytest.mark.parametrize("text", ["", "a thesis", "{}", "[1]"])
def test_a_file_of_something_else_is_left_alone(tmp_path, text):
    path = tmp_path / "thesis.txt"
    path.write_text(text)
    with pytest.raises(ProfileError, match="is no samples file"):
        SampleLog(path, SCENARIO, MACHINE)
    assert path.read_text() == text


def test_without_a_path_nothing_is_written(tmp_path):
    log = SampleLog(None, SCENARIO, MACHINE)
    log.add("a", 1)
    assert log.known == {"a": 1}
    log.remove()


def test_a_profile_stopped_before_its_first_sample_stands_in_nobodys_way(tmp_path):
    path = tmp_path / "table.partial.json"
    SampleLog(path, Scenario(prompt=7), {**MACHINE, "torch": "2.0.0"})
    SampleLog(path, SCENARIO, MACHINE).add("a", 1)
    assert SampleLog(path, SCENARIO, MACHINE).known == {"a": 1}
    with pytest.raises(ProfileError, match="torch was"):
        SampleLog(path, SCENARIO, {**MACHINE, "torch": "2.0.0"})
