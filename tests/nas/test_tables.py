"""Latency tables of a study: the library of imported ones, which may be used, and what is said of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.errors import ProfileError, UnknownName
from hw_profiles.latency.correction import TRUSTED_MAPE, Accuracy
from hw_profiles.latency.table import LatencyTable
from hw_profiles.roofline.cards import card_named
from hw_profiles.roofline.roofline import Roofline
from nas.modifiers.allocate import Allocate
from nas.study.marks import error_words, rough_lines
from nas.study.plan import Plan
from nas.study.trial import Value
from nas.tables import library
from nas.tables.study_tables import check_tables, load_given, table_path
from nas.tables.table_facts import (
    elsewhere,
    estimate_fact,
    machine_of,
    table_fact,
    warnings_of,
)
from search_spaces.scenario import Scenario
from tests.hw_profiles.tiny import SCENARIO, registered, round_table

OTHER_MACHINE = {"cpu_model": "a phone", "cores": 8}
mapes = st.none() | st.floats(0, 2)


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAS_TABLES", str(tmp_path / "library"))


@pytest.fixture
def table() -> LatencyTable:
    with registered():
        return round_table()


def of_other_machine(table: LatencyTable) -> LatencyTable:
    return replace(table, fingerprint={**table.fingerprint, **OTHER_MACHINE})


def erring(table: LatencyTable, mape: float | None) -> LatencyTable:
    """The same table with this error in both readings."""
    accuracy = Accuracy(9, mape=mape, rms=mape, reach=2.0)
    return replace(table, accuracies=dict.fromkeys(("prefill_ms", "decode_ms"), accuracy))


def saved(table: LatencyTable, path: Path) -> Path:
    table.save(path)
    return path


def plan_with(table: Path, **changes: object) -> Plan:
    return Plan.from_plain({"scenarios": [SCENARIO], "latency_tables": [str(table)], **changes})


def test_the_library_is_empty_at_first(tmp_path: Path) -> None:
    assert library.folder() == tmp_path / "library"
    assert library.entries() == []
    with pytest.raises(UnknownName, match="no table 'phone' was imported"):
        library.find("phone")


def test_the_library_lies_beside_the_studies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NAS_TABLES")
    monkeypatch.delenv("NAS_STORE", raising=False)
    monkeypatch.chdir(tmp_path)
    here = tmp_path / "studies" / "tables"
    assert library.folder() == library.folder("postgresql://host/studies") == here
    assert library.folder(tmp_path / "mine" / "s.db") == tmp_path / "mine" / "tables"
    assert library.folder("sqlite:///mine/s.db") == tmp_path / "mine" / "tables"
    monkeypatch.setenv("NAS_STORE", "yours/s.db")
    assert library.folder() == tmp_path / "yours" / "tables"


def test_a_modifier_finds_its_table_beside_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NAS_TABLES")
    allocate = Allocate(under="decode_ms", table="phone")
    with pytest.raises(UnknownName, match="no table 'phone' was imported to"):
        allocate.located(str(tmp_path / "s.db"))
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "phone.json").touch()
    assert allocate.located(str(tmp_path / "s.db")).table == str(tmp_path / "tables" / "phone.json")
    assert Allocate().located("s.db") == Allocate()


def test_an_imported_table_has_a_name_and_a_note(table: LatencyTable, tmp_path: Path) -> None:
    path = saved(table, tmp_path / "phone.json")
    with registered():
        entry = library.add(path)
        assert (entry.name, entry.path) == ("phone", tmp_path / "library" / "phone.json")
        assert library.is_imported(entry.table)
        assert not library.is_imported(table)
        assert library.without_note(entry.table).to_plain() == table.to_plain()
        assert [each.name for each in library.entries()] == ["phone"]
        assert library.find("phone") == entry.path
        assert library.named_table("phone").to_plain() == entry.table.to_plain()


def test_a_table_is_imported_once(table: LatencyTable, tmp_path: Path) -> None:
    path = saved(table, tmp_path / "phone.json")
    with registered():
        first = library.add(path, "mine")
        again = library.add(first.path, "mine")
        assert again.table.to_plain() == first.table.to_plain()
        assert len(library.entries()) == 1
        different = saved(erring(table, 0.07), tmp_path / "different.json")
        with pytest.raises(ProfileError, match="another table 'mine'"):
            library.add(different, "mine")


@pytest.mark.parametrize("name", ["../up", "a b", "a/b", "é!", "...", "-"])
def test_a_name_that_is_no_file_name_is_refused(name: str, table: LatencyTable, tmp_path: Path) -> None:
    path = saved(table, tmp_path / "t.json")
    with registered(), pytest.raises(ProfileError, match="a name of letters, digits, dots and dashes"):
        library.add(path, name)


def test_a_path_is_found_as_it_is() -> None:
    assert library.find("folder/any.json") == Path("folder/any.json")


def test_a_table_of_this_machine_is_not_from_elsewhere(table: LatencyTable) -> None:
    assert elsewhere(table) == ""
    assert "a phone" in elsewhere(of_other_machine(table))
    assert machine_of(of_other_machine(table)).startswith("a phone, 8 cores, torch ")


def test_a_table_of_another_machine_must_be_imported(table: LatencyTable, tmp_path: Path) -> None:
    path = saved(of_other_machine(table), tmp_path / "phone.json")
    with registered():
        with pytest.raises(ProfileError, match="nas profile import"):
            load_given(str(path))
        assert load_given(str(path), on="phone").fingerprint["cpu_model"] == "a phone"
        assert elsewhere(load_given(str(library.add(path).path)))


def test_a_table_of_another_scenario_is_refused(table: LatencyTable, tmp_path: Path) -> None:
    path = saved(erring(table, 0.01), tmp_path / "t.json")
    with registered():
        check_tables(plan_with(path))
        with pytest.raises(ProfileError, match="was measured for"):
            check_tables(plan_with(path, scenarios=[Scenario(prompt=99)]))


def test_a_table_that_errs_is_used_unless_the_plan_is_strict_and_needs_it(
    table: LatencyTable, tmp_path: Path
) -> None:
    path = saved(erring(table, 0.3), tmp_path / "t.json")
    with registered():
        with pytest.raises(ProfileError, match=r"decode_ms by 30\.0 %.*strict_table=False"):
            check_tables(plan_with(path, strict_table=True))
        check_tables(plan_with(path))
        check_tables(plan_with(path, objectives=["params"], strict_table=True))


def test_an_estimate_needs_a_card_that_exists() -> None:
    check_tables(Plan(roofline="xeon-1-thread"))
    with pytest.raises(UnknownName, match="xeon"):
        check_tables(Plan(roofline="xeon-1-thred"))


@given(mapes)
def test_a_reading_is_rough_beyond_the_trusted_error(mape: float | None) -> None:
    with registered():
        rough = erring(round_table(), mape).rough
    expected = mape is not None and mape > TRUSTED_MAPE
    assert set(rough) == ({"prefill_ms", "decode_ms"} if expected else set())


@given(st.dictionaries(st.sampled_from(["prefill_ms", "decode_ms"]), st.floats(0, 9)))
def test_errors_are_said_in_percent(rough: dict[str, float]) -> None:
    text = error_words(rough)
    assert text.count(" %") == len(rough)
    assert all(f"{name} by {100 * mape:.1f} %" in text for name, mape in rough.items())


def test_warnings_name_errors_and_another_machine(table: LatencyTable) -> None:
    assert warnings_of(erring(table, 0.01)) == []
    (error,) = warnings_of(erring(table, 0.5))
    assert "errs on held-out networks, prefill_ms by 50.0 %" in error
    (machine,) = warnings_of(of_other_machine(erring(table, 0.01)))
    assert "another machine than this one" in machine
    (device,) = warnings_of(of_other_machine(erring(table, 0.01)), on="phone")
    assert device.startswith("latencies are those of the device phone: a phone, 8 cores")


def test_facts_of_a_table_are_its_errors_and_its_machine(table: LatencyTable) -> None:
    fact = table_fact(erring(table, 0.04))
    assert fact["elsewhere"] == ""
    assert fact["decode_ms"]["mape"] == 0.04
    assert "on" not in fact
    there = table_fact(of_other_machine(table), on="phone")
    assert there["on"] == "phone"
    assert there["fingerprint"]["cpu_model"] == "a phone"


def test_facts_of_an_estimate_say_that_it_is_one() -> None:
    fact = estimate_fact(Roofline(card_named("xeon-1-thread"), SCENARIO))
    assert fact["estimate"] == "xeon-1-thread"
    assert "an estimate is a lower bound" in fact["notes"][0]


def test_each_of_several_scenarios_has_a_file() -> None:
    chat = Scenario(name="chat")
    assert table_path(Path("t/table.json"), chat, 1) == Path("t/table.json")
    assert table_path(Path("t/table.json"), chat, 2) == Path("t/table.chat.json")


def test_what_was_measured_on_a_busy_machine_is_said_in_a_sentence() -> None:
    numbers = {"decode_ms_measured": Value(1.0, 0.1, "measured, rough")}
    assert "while decode_ms was measured" in rough_lines([numbers])[0]
    numbers |= {"prefill_ms_measured": Value(2.0, 0.1, "measured, rough")}
    assert "while decode_ms and prefill_ms were measured" in rough_lines([numbers])[0]
