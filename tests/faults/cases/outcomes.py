"""States of studies in `nas ls`: outcomes on record that fail, are missing or are damaged."""

from __future__ import annotations

from tests.faults.campaign import Case
from tests.faults.stored import copied, made_studies, sql


def outcome(plain: str) -> str:
    """The statement that puts an outcome on the record of the study `laptop`."""
    changed = f"json_set(config_json, '$.facts.outcome', json('{plain}'))"
    return f"UPDATE studies SET config_json = {changed} WHERE name = 'laptop'"


CASES = [
    *(
        Case(
            f"ls with the outcome {plain}",
            "ls",
            code=0,
            says=says,
            prepare=copied(made_studies, sql(outcome(plain))),
            leaves_nothing=False,
        )
        for plain, says in (
            ("{}", r"laptop +stopped"),
            ('{"complete": true}', r"laptop +complete"),
            ('{"error": "the disk is full"}', r"laptop +failed(.|\n)*laptop failed: the disk is full"),
            ('{"error": 5}', r"laptop +failed(.|\n)*laptop failed: 5"),
            ('{"error": {}}', r"laptop +(stopped|complete)"),
            ('{"error": "\\u001b[31m\\n"}', r"laptop failed: .*\\x1b\[31m"),
            ("[]", r"laptop .* cannot be read: facts of study laptop cannot be read: outcome"),
            ("3", r"laptop .* cannot be read: facts of study laptop cannot be read: outcome"),
        )
    ),
    Case(
        "ls of studies without trials, or searched before outcomes were on record",
        "ls",
        code=0,
        says=r"empty +(complete|not started)",
        prepare=copied(made_studies),
        leaves_nothing=False,
    ),
    Case("a version of a command", "ls --version", says="No such option"),
    Case("the version", "--version", code=0, says=r"^nas \d", leaves_nothing=False),
]
