"""Questions about networks of a study: best, diff, lineage."""

from __future__ import annotations

from tests.faults.campaign import Case
from tests.faults.stored import copied, made_studies, sql

studies = copied(made_studies)
OLD = copied(made_studies, sql("UPDATE trials SET memo_json = '{}'"))

CASES = [
    *(
        Case(f"best: {name}", f"best laptop {words}", says=says, prepare=studies, leaves_nothing=False)
        for name, words, says in (
            ("no objective", "", "Missing option '--objective'"),
            ("an unknown objective", "-o bits_per_bite", r"no network of study laptop has a number"),
            ("an empty objective", "-o ''", "no network of study laptop has a number ''"),
            ("an unknown bound", "-o params -c 'speed<3'", "has a number 'speed'; known: bits_per_byte"),
            ("a bound without a number", "-o params -c 'decode_ms<'", "write it like decode_ms<5"),
            ("a bound of words", "-o params -c 'decode_ms<few'", "write it like decode_ms<5"),
            ("a bound that is no bound", "-o params -c decode_ms", "write it like decode_ms<5"),
            ("an equality", "-o params -c 'decode_ms=5'", "write it like decode_ms<5"),
            ("an endless bound", "-o params -c 'decode_ms<1e999'", "the bound must be a finite number"),
            ("a scenario that there is not", "-o params -c 'decode_ms@x<5'", "has a number 'decode_ms@x'"),
            (
                "a bound that nothing keeps",
                "-o bits_per_byte -c 'decode_ms<1e-9'",
                "nearest is trial .* too much",
            ),
            (
                "a lower bound that nothing keeps",
                "-o bits_per_byte -c 'params>1e12'",
                "nearest .* too little",
            ),
            ("a bound of nothing", "-o bits_per_byte -c 'params<0'", "the nearest is trial"),
        )
    ),
    Case(
        "best of an empty study",
        "best empty -o params",
        says="known: none",
        prepare=studies,
        leaves_nothing=False,
    ),
    Case(
        "best of no study",
        "best lapdog -o params",
        says="did you mean 'laptop'",
        prepare=studies,
        leaves_nothing=False,
    ),
    *(
        Case(f"{what}", command, says=says, prepare=studies, leaves_nothing=False)
        for what, command, says in (
            ("diff of one network", "diff laptop 0", "Missing argument 'second'"),
            ("diff with a trial that there is not", "diff laptop 0 99999", "'99999' is neither the number"),
            ("diff in no study", "diff lapdog 0 1", "did you mean 'laptop'"),
            ("lineage of a trial that there is not", "lineage laptop x", "'x' is neither the number"),
            ("lineage in no store", "lineage laptop 0 --store nowhere.db", "nowhere.db"),
        )
    ),
    Case(
        "lineage of an old study",
        "lineage laptop 40",
        says="nothing was recorded about the parents of trial 40",
        prepare=OLD,
        leaves_nothing=False,
    ),
    *(
        Case(
            f"lineage with {parents} as parents",
            "lineage laptop 40",
            says="the parents of trial .* cannot be read",
            prepare=copied(
                made_studies,
                sql(f"UPDATE trials SET memo_json = json_set(memo_json, '$.parents', json('{parents}'))"),
            ),
            leaves_nothing=False,
        )
        for parents in ("7", "null", "[100000]", "{}", '["0"]', "[1.5]")
    ),
    Case(
        "lineage in a circle",
        "lineage laptop 40",
        code=0,
        prepare=copied(
            made_studies,
            sql("UPDATE trials SET memo_json = json_set(memo_json, '$.parents', json('[40, 41]'))"),
        ),
        leaves_nothing=False,
    ),
    *(
        Case(
            f"{command} in ascii",
            command,
            code=0,
            prepare=studies,
            environment={"PYTHONIOENCODING": "ascii"},
            leaves_nothing=False,
        )
        for command in (
            "best laptop -o params",
            "diff laptop 0 1",
            "lineage laptop 40",
            "lineage laptop 40 --json",
        )
    ),
]
