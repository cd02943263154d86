"""Studies: failures, damaged records, copies and removals, signals, and what continues a study."""

from __future__ import annotations

import shutil
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

from nas.store import Store
from tests.faults.campaign import Case
from tests.faults.stored import STORE, copied, failed_studies, made_studies, sql
from tests.forks import Ended
from tests.nas.test_crash import TINY, write_text

studies, failed = copied(made_studies), copied(failed_studies)
REASONS = r"out of memory: 2\.5 GiB are missing; \d+ \S+ loss is nan"


def held(*names: str) -> object:
    """The store holds these studies, each whole, and as files those of them that have any."""

    def check(folder: Path, ended: Ended) -> None:
        with Store(folder / STORE, read_only=True) as store:
            assert sorted(study.name for study in store.studies()) == sorted(names)
            for name in names:
                store.trials(store.study(name), None)
        folders = {path.name for path in (folder / "studies").iterdir() if path.is_dir()}
        assert folders <= set(names)

    return check


def log_is_empty(folder: Path, ended: Ended) -> None:
    """A copy of the database's file alone is the whole store."""
    shutil.copy(folder / STORE, folder / "copy.db")
    with closing(sqlite3.connect(folder / "copy.db")) as database:
        assert database.execute("SELECT count(*) FROM studies").fetchone()[0] > 0


def small_search(folder: Path) -> None:
    (folder / "tiny.py").write_text(TINY)
    write_text(folder / "text")


SEARCH = (
    "search tiny.py --data text --train-batch 2 --window 32 --finalists 0 -o bits_per_byte -o weight_bytes"
    " --name s"
)

DAMAGES = {
    "a broken config": ("studies", "config_json = '{'", "config is not JSON"),
    "a config of a newer nas": (
        "studies",
        "config_json = json_set(config_json, '$.plan.newer', 1)",
        "has no setting 'newer'",
    ),
    "no plan": ("studies", "config_json = '{}'", "lacks 'plan'"),
    "a plan of a wrong type": ("studies", "config_json = '{\"plan\": 3}'", "not an object"),
    "an unknown objective": (
        "studies",
        "config_json = json_set(config_json, '$.plan.objectives', json('[\"beauty\"]'))",
        "without beauty|beauty",
    ),
    "trials that are no number": (
        "studies",
        "config_json = json_set(config_json, '$.plan.trials', 'many')",
        "trials must be",
    ),
    "a date that is text": ("studies", "created = 'yesterday'", "time at which"),
    "a date beyond all calendars": ("studies", "created = 1e300", "time at which"),
    "config as bytes": ("studies", "config_json = x'ff00'", "cannot be read"),
}

TRIALS = {
    "broken values": ("values_json = '{'", "values is not JSON"),
    "a score that is NaN": ('values_json = \'{"bits_per_byte": {"value": NaN}}\'', "it holds NaN"),
    "an infinite score": (
        'values_json = \'{"bits_per_byte": {"value": 1e999, "source": "s"}}\'',
        "finite number",
    ),
    "a score that is text": (
        'values_json = \'{"bits_per_byte": {"value": "good", "source": "s"}}\'',
        "finite number",
    ),
    "values that are a list": ("values_json = '[]'", "not an object"),
    "a missing objective": (
        "values_json = json_remove(values_json, '$.decode_ms')",
        "complete without decode_ms",
    ),
    "an unknown state": ("state = 'dreaming'", "dreaming"),
    "a genotype of lists": ("genotype_json = '{\"a\": []}'", "no plain value"),
    "a deep genotype": (f"genotype_json = '{'[' * 30000}'", "nested too deeply"),
    "steps that are text": ("steps = 'few'", "steps of a wrong type"),
    "text that is not UTF-8": ("memo_json = CAST(x'7b22ff' AS TEXT)", "memo is not JSON"),
}

CASES = [
    *(
        Case(f"{command}, every candidate failed", command, code=1, says=REASONS, prepare=failed, check=check)
        for command, check in (("front laptop", None), ("report laptop -o r.html", None))
    ),
    Case("ls counts failures", "ls", code=0, says=r"laptop .* 50 of 50 +50|laptop .* of 50 ", prepare=failed),
    Case(
        "compare with a study that has no score",
        "compare laptop second",
        says="no scored trial",
        prepare=failed,
    ),
    Case(
        "a front with some failures counts them",
        "front laptop",
        code=0,
        says=r"failed: 1 \S a worker was lost",
        prepare=studies,
    ),
    Case(
        "trial numbers are explained",
        "front laptop",
        code=0,
        says=r"proposals, each with a trial number: .* candidates scored.* broke a constraint",
        prepare=studies,
    ),
    Case("the front of an empty study", "front empty", code=1, says="no scored trial", prepare=studies),
    Case("the front of an empty study as JSON", "front empty --json", code=1, says=r"\[\]", prepare=studies),
    Case("the report of an empty study", "report empty -o r.html", code=1, says="no scored", prepare=studies),
    Case("no failures, no lines", "front second", code=0, says="on the front", prepare=studies),
    *(
        Case(
            f"ls beside {what}",
            "ls",
            code=0,
            says=r"(?s)empty.*laptop|laptop.*empty",
            prepare=copied(made_studies, sql(f"UPDATE {table} SET {change} WHERE name = 'second'")),
        )
        for what, (table, change, _) in DAMAGES.items()
    ),
    *(
        Case(
            f"the front of a study with {what}",
            "front second",
            code=1 if what == "an unknown objective" else 2,
            says=says,
            prepare=copied(made_studies, sql(f"UPDATE {table} SET {change} WHERE name = 'second'")),
            leaves_nothing=False,
        )
        for what, (table, change, says) in DAMAGES.items()
    ),
    *(
        Case(
            f"a front beside a trial with {what}",
            "front second",
            code=0,
            says=f"search trial 3 cannot be read: .*{says}",
            prepare=copied(
                made_studies, sql(f"UPDATE trials SET {change} WHERE study_id = 2 AND number = 3")
            ),
        )
        for what, (change, says) in TRIALS.items()
    ),
    Case(
        "a copy",
        "cp laptop new",
        code=0,
        says="study new in",
        prepare=studies,
        check=held("laptop", "second", "empty", "new"),
    ),  # type: ignore[arg-type]
    Case("a copy to a taken name", "cp laptop second", says="there is a study 'second'", prepare=studies),
    Case("a copy to itself", "cp laptop laptop", says="there is a study", prepare=studies),
    Case("a copy without a name", "cp laptop", says="name the copy", prepare=studies),
    Case(
        "a copy of nothing", "cp lapptop new --to other/s.db", says="did you mean 'laptop'", prepare=studies
    ),
    Case("a copy outside", "cp laptop ../new", says="letters, digits", prepare=studies),
    Case(
        "a copy of a damaged study",
        "cp second new",
        code=0,
        prepare=copied(made_studies, sql("UPDATE trials SET values_json = '{'")),
    ),
    Case(
        "a copy into another store",
        "cp laptop --to other/s.db",
        code=0,
        says="in other/s.db",
        prepare=studies,
    ),
    Case(
        "a copy over foreign files",
        "cp laptop new",
        says="belongs to no study",
        prepare=studies,
        files={"studies/new/notes.txt": "mine"},
    ),
    Case(
        "a removal", "rm second --yes", code=0, says="removed", prepare=studies, check=held("laptop", "empty")
    ),  # type: ignore[arg-type]
    Case("a removal with files", "rm laptop -y", code=0, prepare=studies, check=held("second", "empty")),  # type: ignore[arg-type]
    Case(
        "a removal that nobody agrees to",
        "rm laptop",
        says="not removed",
        prepare=studies,
        streams={0: "closed"},
    ),
    Case("a removal of nothing", "rm lapptop --yes", says="did you mean 'laptop'", prepare=studies),
    Case("a removal from no store", "rm laptop --yes", says="no store"),
    Case(
        "a removal of a damaged study",
        "rm second -y",
        code=0,
        prepare=copied(made_studies, sql("UPDATE studies SET config_json = '{' WHERE name = 'second'")),
    ),
    Case(
        "a removal of a foreign name",
        ["rm", "a b", "-y"],
        code=0,
        prepare=copied(made_studies, sql("UPDATE studies SET name = 'a b' WHERE name = 'second'")),
    ),
    *(
        Case(
            f"{names} while a supernet is trained",
            f"{SEARCH} --train-steps 5000 --trials 3",
            code=128 + numbers[-1],
            says="nas resume s" if len(numbers) == 1 else "",
            prepare=small_search,
            when="training the supernet",
            signals=numbers,
            check=log_is_empty,
            lines=20,
            seconds=60,
            megabytes=2000,
            leaves_nothing=False,
            slow=len(numbers) > 1,
        )
        for names, numbers in (
            ("Ctrl-C", (signal.SIGINT,)),
            ("SIGTERM", (signal.SIGTERM,)),
            ("SIGHUP", (signal.SIGHUP,)),
            ("Ctrl-C twice", (signal.SIGINT, signal.SIGINT)),
            ("Ctrl-C and SIGTERM", (signal.SIGINT, signal.SIGTERM)),
        )
    ),
    Case(
        "a search that ends",
        f"{SEARCH} --train-steps 2 --trials 3",
        code=0,
        says="3 distinct|distinct architectures",
        prepare=small_search,
        check=log_is_empty,
        lines=20,
        seconds=60,
        megabytes=2000,
        slow=True,
    ),
]
