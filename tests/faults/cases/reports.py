"""Reports of studies that lack something, or whose records are damaged: what the page says, and what not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from nas.store import Store
from tests.dashboards.made import make_study
from tests.dashboards.test_report import Reader
from tests.faults.campaign import Case
from tests.faults.stored import STORE, copied, failed_studies, made_studies, sql
from tests.forks import Ended

studies, failed = copied(made_studies), copied(failed_studies)


def page(says: tuple[str, ...] = (), silent: tuple[str, ...] = ()) -> Callable[[Path, Ended], None]:
    """The report says these, and nothing of those."""

    def check(folder: Path, ended: Ended) -> None:
        text = Reader((folder / "r.html").read_text()).text
        assert [words for words in says if words not in text] == []
        assert [words for words in silent if words in text] == []

    return check


def set_in_config(where: str, value: str, name: str = "laptop") -> Callable[[Path], None]:
    """A study's record with another value, as JSON, at a path."""
    change = f"config_json = json_set(config_json, '$.{where}', json('{value}'))"
    return sql(f"UPDATE studies SET {change} WHERE name = '{name}'")


def without_quality(folder: Path) -> None:
    with Store(folder / STORE) as store:
        make_study(store, "costs", trials=6, complete=False, objectives=("params", "decode_ms"))


def case(
    name: str,
    check: Callable[[Path, Ended], None],
    *changes: Callable[[Path], object],
    study: str = "laptop",
) -> Case:
    """A report that is written, of a store with these changes."""
    command, prepare = f"report {study} -o r.html", copied(made_studies, *changes)
    return Case(f"report of {name}", command, code=0, prepare=prepare, check=check, seconds=10)


TABLE_NOTES = {
    "did not settle": (
        "7 of 90 latencies did not settle: load of 8.4",
        "still varied when their time was up",
    ),
    "was disturbed": (
        "disturbed in 2 batches, the last time: load of 8.4",
        "disturbed 2 batches of measurements",
    ),
    "ran out of time": (
        "time ran out while interpolation was expected to err by 4.2 %",
        "off by about 4.2 %",
    ),
    "had too few seconds": ("3 s were too few: what must be measured took 9 s", "were too few"),
    "has few networks": ("only 5 different networks were found: 4 fit the correction, 1 test it", "only 5"),
    "is interpolated": ("24 of 78 parts were measured, the others are interpolated", "24 of 78 blocks"),
    "has a note of its own": ("a remark <b>", "A remark <b>."),
}
TABLES = ('{"": 3}', '{"": {"decode_ms": 3}}', '{"": {"notes": 7}}', '{"": {"scenario": 7}}')
RECORDS = ("table", "supernet", "corpus", "validation")
"""A record that is an object, but a wrong one, takes only its own part of the page away."""

CASES = [
    case(
        "a study without a quality objective",
        page(
            ("This study has no quality objective", "-o bits_per_byte"),
            ("nas export", "nas validate", "finalist", "trained from scratch"),
        ),
        without_quality,
        study="costs",
    ),
    case(
        "a study with finalists to train",
        page(("trains 9 finalists",), ("nas export",)),
        study="second",
    ),
    case(
        "a study that trains no finalists",
        page(("trains no finalists",), ("nas resume second --store studies/studies.db trains",)),
        set_in_config("plan.finalists", "0", "second"),
        study="second",
    ),
    case("a study with weights", page(("nas export laptop",))),
    *(
        case(
            f"a study whose table {name}",
            page((says, "--profile-seconds") if "own" not in name else (says,), ("WARNING",)),
            set_in_config("facts.table.notes", f'["{note}"]'),
        )
        for name, (note, says) in TABLE_NOTES.items()
    ),
    case(
        "a study with a table of another machine",
        page(("on another machine than that of the study: 4 cores",)),
        set_in_config("facts.table.elsewhere", '"4 cores"'),
    ),
    *(
        case(f"a study whose tables are {value}", page(("The front", "Next commands")), change)
        for value in TABLES
        for change in [set_in_config("facts.tables", value)]
    ),
    *(
        case(f"a study whose {record} is {value}", page(("The front", "Next commands")), change)
        for record in RECORDS
        for value in ('{"steps": []}', '{"seconds": "long", "name": 3}')
        for change in [set_in_config(f"facts.{record}", value)]
    ),
    *(
        Case(
            f"report of a study whose {record} is no object",
            "report laptop -o r.html",
            says=f"facts of study laptop cannot be read: {record} is no object",
            prepare=copied(made_studies, set_in_config(f"facts.{record}", "[1, 2]")),
        )
        for record in ("tables", *RECORDS)
    ),
    Case(
        "report of a study of which every candidate failed",
        "report laptop -o r.html",
        code=1,
        says="no architecture could be scored",
        prepare=failed,
        check=page(("all 50 candidates failed", "remove its cause"), ("nas export", "nas show", "DIGEST")),
    ),
    Case(
        "report of a study without trials",
        "report empty -o r.html",
        code=1,
        says="no scored",
        prepare=studies,
        check=page(("nothing scored yet", "nas resume empty"), ("nas export", "nas show", "nas validate")),
    ),
]
