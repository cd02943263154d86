"""What README and docs/extend.md show works on a machine that others keep busy, and marks what is rough."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hw_profiles.latency.table import LatencyTable
from nas.study.open_study import open_study
from tests.docs.pages import ROOT
from tests.docs.shown import run_program, run_shown
from tests.docs.test_extend import SHOWN
from tests.forks import Ended

pytestmark = pytest.mark.slow
SECONDS = 900.0
"""How long a process may take here; alone, the longest takes one minute."""


@pytest.fixture(autouse=True)
def _busy_machine() -> Iterator[None]:
    """Two processes that never wait."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    yield
    for other in others:
        other.kill()
        other.wait()


def went_well(ended: Ended) -> None:
    assert ended.returncode == 0, ended
    assert "Traceback" not in ended.stdout + ended.stderr


def test_the_example_of_the_readme_ends_with_its_numbers_marked(tmp_path: Path) -> None:
    text = (ROOT / "examples/first_search.py").read_text()
    fewer, count = re.subn(r"\b(trials|train_steps)=100\b", r"\1=20", text)
    assert count == 2
    ended = run_program(fewer, tmp_path, seconds=SECONDS)
    went_well(ended)
    table = LatencyTable.load(tmp_path / "studies" / "mine" / "table.json")
    study = open_study("mine", tmp_path / "studies" / "studies.db")
    assert len(study.complete()) == 20
    for trial in study.complete():
        assert trial.values["decode_ms"].rough == ("decode_ms" in table.rough)
    for trial in study.front():
        decode = study.numbers(trial)["decode_ms"]
        assert f"{trial.digest} {study.numbers(trial)['bits_per_byte']} {decode} " in ended.stdout
        assert decode.rough == str(decode).endswith("?")
    study.store.close()


@pytest.mark.parametrize("title", list(SHOWN))
def test_the_files_of_the_page_about_ones_own_parts_work(
    title: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAS_CACHE", str(tmp_path / "cache"))
    for block in SHOWN[title]:
        for ended in run_shown(block, tmp_path, seconds=SECONDS):
            went_well(ended)
