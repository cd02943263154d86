"""What goes wrong at odd times: before anything is stored, between two looks at a file, beside a process."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from nas.study.trial import TrialState
from tests.faults.campaign import Case
from tests.faults.situations import TINY_SPACE, trained_study
from tests.faults.stored import copied, sql
from tests.forks import Ended


def _nothing_scored(folder: Path, ended: Ended) -> None:
    from nas.study.study import open_study

    assert open_study("a", folder / "studies" / "studies.db").trials("validate") == []


def _others_in_its_place(folder: Path, ended: Ended) -> None:
    """Six trials can be read, those before are as they were, and what cannot be read is still there."""
    from nas.study.study import open_study

    before = open_study("a", trained_study() / "studies" / "studies.db")
    study = open_study("a", folder / "studies" / "studies.db")
    after, unreadable = study.readings()
    assert [trial.state for trial in after] == [TrialState.COMPLETE] * 6
    assert [record.name for record in unreadable] == ["1"]
    assert [t for t in before.trials() if t.number != 1] == [t for t in after if t.number < 4]
    assert (folder / "studies" / "a" / "report.html").is_file()


DAMAGE = (
    ("genotype_json", "'{'"),
    ("genotype_json", "'[1]'"),
    ("genotype_json", "x'ff00'"),
    ("values_json", "'{}'"),
    ("values_json", """'{"recall_error": {"value": 1e999, "source": "supernet"}}'"""),
    ("state", "'done'"),
    ("seed", "'zero'"),
    ("started", "'noon'"),
    ("memo_json", "'null'"),
)
"""Columns of a trial, and what something else wrote there."""

UNTIMED = "search laptop --name a -o params -o decode_flops --finalists 0"

RECIPES = (
    ("optimizer.decay=-1", "optimizer.decay must be at least 0, got -1"),
    ("optimizer.decay=x", "optimizer.decay must be a number, got 'x'"),
    ("optimizer.decya=1", "no setting 'optimizer.decya'; did you mean 'optimizer.decay'"),
    ("optmizer.decay=1", "no setting 'optmizer.decay'; did you mean 'optimizer.decay'"),
    ("decay=1", "no setting 'decay'; did you mean 'optimizer.decay'"),
    ("optimizer=adamx", "unknown optimizer 'adamx'; did you mean 'adamw'"),
    ("supernet.phases=odd", "supernet.phases: Phase cannot be 'odd'"),
    ("supernet.networks=0", "supernet.networks must be at least 1, got 0"),
    ("rate.x=1", "rate has no settings of its own, so there is no rate.x"),
)

CORPUS = (
    "search tiny.py --name a -o bits_per_byte -o params --train-steps 2 --train-batch 2"
    " --validation-windows 8 --window 32 --trials 2 --finalists 0 --data t.txt"
)


def _no_study(folder: Path, ended: Ended) -> None:
    assert not (folder / "studies").exists()


def _text_and_space(folder: Path) -> None:
    (folder / "t.txt").write_text("hello world. " * 20_000)
    (folder / "tiny.py").write_text(TINY_SPACE)
    os.symlink("loop", folder / "loop")


SIGNALLED = """
import os, signal
try:
    os.kill(os.getpid(), signal.{number})
    for _ in range(10**6):
        pass
except {caught}:
    {then}
"""

CASES = [
    *(
        Case(
            f"{number} while a space file runs that {what}",
            "search s.py --name a -o params -o decode_flops --finalists 0",
            code=128 + signal.Signals[number],
            says="stopped; what was saved is intact",
            files={"s.py": SIGNALLED.format(number=number, caught=caught, then=then) + TINY_SPACE},
            check=_no_study,
        )
        for number in ("SIGINT", "SIGTERM", "SIGHUP")
        for what, caught, then in (
            ("lets it pass", "ZeroDivisionError", "pass"),
            ("catches everything", "BaseException", "pass"),
            ("makes another error of it", "BaseException", "raise ValueError('why?') from None"),
        )
    ),
    *(
        Case(f"a store in the home of nobody: {words}", f"{words} --store ~nobody-here/s.db", says=says)
        for words in ("ls", "front a", "search laptop --name a", "resume a", "rm a --yes", "cp a b")
        for says in ("~nobody-here in ~nobody-here/s.db names no home folder: write ./~nobody-here",)
    ),
    *(
        Case(
            f"a corpus whose cache cannot be: {name}={value!r}",
            CORPUS,
            says=r"cannot copy t.txt to the cache .*; set NAS_CACHE to a folder that can be written",
            prepare=_text_and_space,
            environment={"NAS_CACHE": "", name: value},
        )
        for name, value in (
            ("NAS_CACHE", "/proc/nope"),
            ("NAS_CACHE", "/dev/null"),
            ("NAS_CACHE", "loop"),
            ("NAS_CACHE", "x" * 300),
            ("HOME", "/proc/nope"),
            ("HOME", "/dev/null"),
        )
    ),
    *(
        Case(
            f"text that is {what}",
            CORPUS.replace("t.txt", path),
            says=says,
            prepare=_text_and_space,
        )
        for what, path, says in (
            ("a link to itself", "loop", "loop: Too many levels of symbolic links"),
            ("below a link to itself", "loop/x", "Too many levels of symbolic links"),
            ("a device without end", "/dev/zero", "/dev/zero"),
            ("of a name of 5,000 letters", "x" * 5_000, "File name too long"),
        )
    ),
    *(
        Case(f"a recipe of {given}", f"search laptop --name a --recipe {given}", says=says)
        for given, says in RECIPES
    ),
    *(
        Case(f"a scenario on {device} where nothing is timed", f"{UNTIMED} --scenario {device}", says=says)
        for device, says in (
            ("tpu", "unsupported device 'tpu'"),
            ("mps", "unsupported device 'mps'"),
            ("xla:0,prompt=9", "unsupported device 'xla:0'"),
            ("cpu:1", "all cores of a machine are one device, cpu"),
            ("cuda:x", "no device 'cuda:x': write e.g. cuda:0"),
        )
    ),
    *(
        Case(
            f"a study with a trial whose {column} is {value} goes on",
            "resume a --trials 6",
            code=0,
            says="WARNING: search trial 1 cannot be read: .*; it stays as it is, and does not count",
            prepare=copied(
                trained_study,
                sql(f"UPDATE trials SET {column} = {value} WHERE stage = 'search' AND number = 1"),
            ),
            check=_others_in_its_place,
            lines=30,
            seconds=30,
            megabytes=1000,
            slow=number > 0,
        )
        for number, (column, value) in enumerate(DAMAGE)
    ),
    Case(
        "a study whose finalist cannot be read trains it again",
        "resume a",
        code=0,
        says="WARNING: final trial 0 cannot be read",
        prepare=copied(trained_study, sql("UPDATE trials SET values_json = '?' WHERE stage = 'final'")),
        lines=30,
        seconds=30,
        megabytes=1000,
        slow=True,
    ),
    Case(
        "a validation on more networks than the space has",
        "validate a --scratch-networks 13",
        says="--scratch-networks 13 is more than the space has: it has only 12 ",
        prepare=copied(trained_study),
        check=_nothing_scored,
    ),
]
