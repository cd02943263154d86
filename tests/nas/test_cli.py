"""The command line as a person meets it: one clear line and exit code 2 for every mistake."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch

import nas
from foundation.errors import SettingError
from nas.cli import app
from nas.study.space_files import load_space
from search_spaces.network.decoder import Decoder
from search_spaces.scenario import Scenario
from tests.forks import Ended, nas_command, until
from tests.nas.test_crash import TINY, write_text
from tests.nas.toys import small, toy_space

SMALL = (
    "--train-steps 8 --train-batch 2 --window 32 --trials 12 --finalists 2 --finalist-steps 3,6"
    " -o bits_per_byte -o weight_bytes"
)


def call(folder: Path, *words: str) -> Ended:
    return nas_command(*words, store=folder / "s.db").wait()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a space, a text, and a finished study `tiny`."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "tiny.py").write_text(TINY)
    write_text(folder / "text")
    done = call(folder, "search", str(folder / "tiny.py"), "--data", str(folder / "text"), *SMALL.split())
    assert done.returncode == 0, done.stderr
    assert "12 distinct" in done.stdout or "distinct architectures scored" in done.stdout

    def layers(spec: Decoder) -> float:  # in no file that another process could run
        return float(len(spec.layers))

    functions = {"trials": 3, "finalists": 0, "store": folder / "s.db", "objectives": [small]}
    nas.search(load_space("laptop"), name="functions", **{**functions, "objectives": [layers]})
    nas.search(toy_space(), name="foreign", **functions)
    return folder


def refused(folder: Path, *words: str) -> str:
    """What is said when these words are refused: one line."""
    done = call(folder, *words)
    assert done.returncode == 2, done.stderr + done.stdout
    said = [line for line in done.stderr.splitlines() if line.startswith("nas: ")]
    assert len(said) == 1, done.stderr
    assert "Traceback" not in done.stderr
    return said[0]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("search labtop", "did you mean 'laptop'"),
        ("search laptop -o decode_mss", "did you mean 'decode_ms'"),
        ("search laptop --strategy nsg2", "did you mean 'nsga2'"),
        ("search laptop --setting strat=3", "did you mean 'start'"),
        ("search laptop --setting start", "write a setting as name=value"),
        ("search laptop --setting start=many", "start must be a whole number"),
        ("search laptop --setting plain=7", "plain must be at most 1, got 7.0"),
        ("search laptop --latency-table HOME/none.json", "none.json: no such file"),
        ("search laptop --window 9000000", "is too small"),
        ("search HOME/raises.py:space", "raises.py:2: RuntimeError: no"),
        ("search HOME/toy.py -o params", "params needs a space of Decoder"),
        ("search HOME/toy.py -o small", "unknown objective 'small'"),
        ("search laptop --evaluator scrach", "did you mean 'scratch'"),
        ("search laptop --engine exakt", "did you mean 'exact'"),
        ("search laptop --supernet HOME", "holds no supernet"),
        ("search laptop --train-on tpu", "trained on cpu or cuda"),
        ("engines drats", "did you mean 'darts'"),
        ("search laptop -c decode_ms~5", "write it like decode_ms<5"),
        (
            "search laptop --evaluator scratch --scheduler halving -o recall_error -c bits_per_byte<2",
            "set --task language.steps=N",
        ),
        ("search laptop -c params<10", "params<10: the smallest network of this space has 41,712"),
        ("search laptop --scenario cpu,promt=3", "did you mean 'prompt'"),
        (
            "search laptop --finalist-steps 3,x",
            "--finalist-steps must be a sequence, each a whole number, got",
        ),
        ("search laptop --data HOME/none", "none"),
        ("search laptop --data HOME/empty", "holds no files"),
        ("search laptop --data /bin/ls", "is not text"),
        ("search laptop --name tiny", "holds space"),
        ("search laptop --name ../up", "letters, digits"),
        ("search HOME/tiny.py --seed 9 --data HOME/text SMALL", "started with --seed 0, not --seed 9"),
        ("search HOME/raises.py", "raises.py:2: RuntimeError: no"),
        ("search HOME/nothing.py", "defines no Space"),
        ("search laptop --ray 127.0.0.1:1", "no Ray cluster"),
        ("show tiny 999999", "neither the number nor the digest"),
        ("show nobody 1", "no study 'nobody'"),
        ("resume tinny", "did you mean 'tiny'"),
        ("front tinny", "did you mean 'tiny'"),
        ("resume tiny --also-train 99999", "neither the number nor the digest"),
        ("validate functions", "nothing is trained in this study"),
        ("resume functions", "trades off layers, functions of a Python program"),
        ("show tiny 0 --store HOME/none.db", "there is no store"),
        ("search laptop --workers 2 --ray 127.0.0.1:1 --data HOME/text SMALL --name far", "no Ray cluster"),
        ("export tiny 0 -o HOME/text", "not empty"),
        ("generate HOME/text", "holds no exported model"),
    ],
)
def test_mistakes_end_in_one_clear_line(home: Path, words: str, said: str) -> None:
    (home / "empty").mkdir(exist_ok=True)
    (home / "raises.py").write_text("x = 1\nraise RuntimeError('no')\n")
    (home / "nothing.py").write_text("x = 1\n")
    (home / "toy.py").write_text("from tests.nas.toys import toy_space\nspace = toy_space()\n")
    full = words.replace("HOME", str(home)).replace("SMALL", SMALL)
    assert said in refused(home, *full.split())


def test_a_refused_search_leaves_no_study_behind(home: Path) -> None:
    names = {study["name"] for study in json.loads(call(home, "ls", "--json").stdout)}
    assert names == {"tiny", "functions", "foreign"}


def test_a_newer_database_is_refused_untouched(tmp_path: Path, home: Path) -> None:
    path = tmp_path / "s.db"
    for file, statement in (
        (home / "s.db", f"VACUUM INTO '{path}'"),
        (path, "UPDATE alembic_version SET version_num = '9999'"),
    ):
        with closing(sqlite3.connect(file)) as database:
            database.execute(statement)
            database.commit()
    before = path.read_bytes()
    assert "newer nas" in refused(tmp_path, "front", "tiny")
    assert "newer nas" in refused(tmp_path, "search", "laptop")
    assert path.read_bytes() == before


def test_what_is_found_can_be_read_and_taken_home(home: Path, tmp_path: Path) -> None:
    front = json.loads(call(home, "front", "tiny", "--json").stdout)
    assert front
    best = front[0]
    assert best["values"]["bits_per_byte"]["source"] == "supernet"
    shown = call(home, "show", "tiny", best["digest"]).stdout
    assert best["digest"] in shown
    assert "counted" in shown
    assert (
        json.loads(call(home, "show", "tiny", str(best["number"]), "--json").stdout)["digest"]
        == best["digest"]
    )
    done = call(home, "export", "tiny", best["digest"], "-o", str(tmp_path / "best"))
    assert done.returncode == 0, done.stderr
    model = nas.load(tmp_path / "best")
    assert model(torch.zeros(1, 3, dtype=torch.long)).shape == (1, 3, 256)
    written = call(home, "generate", str(tmp_path / "best"), "--prompt", "def ", "-n", "7").stdout
    assert written.startswith("def ")
    assert len(written.encode()) >= 4 + 7


def test_finalists_are_exported_with_their_own_weights(home: Path, tmp_path: Path) -> None:
    study = nas.open("tiny", home / "s.db")
    final = max(study.trials("final"), key=lambda trial: trial.fidelity.steps)
    folder, about = nas.export(study, final.digest, tmp_path / "final")
    assert about["weights"] == "trained from scratch for 6 steps"
    size = study.spec(final).cost(Scenario()).weight_bytes
    assert size <= (folder / "model.safetensors").stat().st_size < size + 20_000
    (folder / "model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(SettingError, match="weights do not fit"):
        nas.load(folder)
    study.store.close()


def test_resume_goes_further_and_validate_says_how_far_to_trust(home: Path) -> None:
    done = call(home, "resume", "tiny", "--trials", "15", "--also-train", "3")
    assert done.returncode == 0, done.stderr
    study = nas.open("tiny", home / "s.db")
    assert [trial.number for trial in study.trials()] == list(range(15))
    picked = study.trials()[3].digest
    assert max(t.fidelity.steps for t in study.trials("final") if t.digest == picked) == 6
    study.store.close()
    done = call(home, "validate", "tiny", "--scratch-networks", "4", "--train-steps", "3")
    assert done.returncode == 0, done.stderr
    assert "Kendall tau" in done.stdout
    assert "4 random networks" in done.stdout


@pytest.mark.parametrize(
    ("signals", "code"),
    [
        ([signal.SIGINT], 130),
        pytest.param([signal.SIGINT, signal.SIGINT], 130, marks=pytest.mark.slow),
        ([signal.SIGTERM], 143),
        pytest.param([signal.SIGHUP], 129, marks=pytest.mark.slow),
        pytest.param([signal.SIGINT, signal.SIGTERM], 143, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("phase", ["training the supernet: 1/", "training finalists from scratch: 1/"])
def test_a_stopped_study_is_intact(
    home: Path, tmp_path: Path, phase: str, signals: list[signal.Signals], code: int
) -> None:
    words = ["search", str(home / "tiny.py"), "--data", str(home / "text"), *SMALL.split()]
    if "supernet" in phase:
        words[words.index("--train-steps") + 1] = "5000"
    else:
        words[words.index("--finalist-steps") + 1] = "3,5000"
    process = nas_command(*words, store=tmp_path / "s.db")
    until(lambda: phase in process.stderr, process)
    for number in signals:
        process.send(number)
    ended = process.wait()
    assert ended.returncode == code, ended
    assert len(signals) == 2 or "the study is intact: nas resume tiny" in ended.stderr
    assert "Traceback" not in ended.stderr
    log = tmp_path / "s.db-wal"
    assert not log.exists() or log.stat().st_size == 0  # a copy of the file alone is whole
    done = json.loads(call(tmp_path, "ls", "--json").stdout)[0]
    assert (done["name"], done["complete"]) == ("tiny", 0 if "supernet" in phase else 12)


def test_a_full_disk_is_one_clear_line(home: Path, tmp_path: Path) -> None:
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(tmp_path)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a small disk needs the right to mount one")
    try:
        words = ["search", str(home / "tiny.py"), "--data", str(home / "text"), *SMALL.split()]
        words[words.index("--trials") + 1] = "4000"
        said = refused(tmp_path, *words)
        assert "full" in said or "No space left" in said
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_help_teaches() -> None:
    said = subprocess.run(
        [sys.executable, "-m", "nas.cli", "--help"], capture_output=True, text=True, check=True
    ).stdout
    for command in (
        "search",
        "resume",
        "front",
        "show",
        "validate",
        "export",
        "generate",
        "dashboard",
        "report",
        "compare",
    ):
        assert command in said
    assert "Example" in call(Path.cwd(), "search", "--help").stdout


def test_a_signal_while_the_program_loads_ends_it_without_a_word() -> None:
    words = [sys.executable, "-c", "print('on', flush=True); from nas.start import main; main()", "--help"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
    assert "Traceback" not in said
    assert process.returncode == 130


def test_help_flows_into_the_width_of_the_terminal() -> None:
    """No paragraph keeps the line breaks of its docstring."""

    def texts(typer_app: Any) -> Iterator[str]:
        for command in typer_app.registered_commands:
            yield command.help or ""
        for group in typer_app.registered_groups:
            yield from texts(group.typer_instance)

    found = list(texts(app))
    assert len(found) > 20
    assert all("\n" not in paragraph for text in found for paragraph in text.split("\n\n"))
