"""Searches on a Ray of their own, as processes: what is killed, what is lost, and what is left behind."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.faults.cases.ray import SPACE
from tests.forks import Ended, Fork, run_main, until

ray = pytest.importorskip("ray")

pytestmark = pytest.mark.slow  # each starts a Ray, and workers that import torch

LONG = (
    "search own.py --name a --evaluator scratch --train-steps 100000 -o bits_per_byte --trials 4"
    " --finalists 0 --window 64 --validation-windows 4 --data text.txt"
)


class Search:
    """A search of candidates that take for ever, by a Ray of its own."""

    def __init__(self, folder: Path, options: str) -> None:
        import psutil  # Ray brings its own

        (folder / "own.py").write_text(SPACE)
        (folder / "text.txt").write_text("abcdefg " * 5000)
        self.files = folder / "r"
        self.files.mkdir()
        environment = {"RAY_TMPDIR": str(self.files), "COLUMNS": "200"}
        self.fork = Fork(_in_folder, str(folder), f"{LONG} {options}".split(), environment=environment)
        self._process = psutil.Process(self.fork.process.pid)
        self._gone = psutil.NoSuchProcess
        self.family: list[Any] = []

    def until_it_scores(self) -> Search:
        """Wait until a worker has its scorers, and works."""

        def scores() -> bool:
            self.family = self._process.children(recursive=True)
            return any(self._name(process) == "ray::Worker.score" for process in self.family)

        until(scores, self.fork)
        return self

    def kill(self, name: str) -> None:
        """Kill one of the processes of its Ray."""
        next(process for process in self.family if self._name(process) == name).kill()

    def left(self) -> set[str]:
        """Those of its Ray that still run, but for two agents, which do nothing without the others."""
        names = {self._name(process) for process in self.family}
        return names - {"", "ray::DashboardAgent", "ray::RuntimeEnvAgent"}

    def _name(self, process: Any) -> str:
        try:
            return "" if process.status() == "zombie" else str(process.name())
        except self._gone:
            return ""


def _in_folder(folder: str, words: list[str]) -> None:
    os.chdir(folder)
    run_main(tuple(words))


@pytest.fixture
def search(short_folder: Path) -> Callable[[str], Search]:
    return lambda options: Search(short_folder, options)


@pytest.fixture
def short_folder() -> Any:
    """Sockets of Ray want short paths."""
    from tempfile import TemporaryDirectory

    with TemporaryDirectory(prefix="n", dir="/tmp") as folder:
        yield Path(folder)


@pytest.mark.parametrize("lost", ["gcs_server", "raylet"])
def test_a_search_whose_ray_dies_goes_on_with_another(search: Callable[[str], Search], lost: str) -> None:
    running = search("--workers 1").until_it_scores()
    running.kill(lost)
    until(lambda: "was lost: starting another" in running.fork.stderr, running.fork, timeout=120)
    running.until_it_scores().fork.send(signal.SIGINT)
    ended = running.fork.wait()
    assert ended.returncode == 130
    assert "Traceback" not in ended.stderr
    assert not running.left()
    assert not list(running.files.iterdir())


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_search_that_is_stopped_takes_its_ray_along(
    search: Callable[[str], Search], number: int, code: int
) -> None:
    running = search("--workers 1").until_it_scores()
    running.fork.send(number)
    ended = running.fork.wait()
    assert ended.returncode == code
    assert ended.stderr.splitlines()[1:] == ["stopped; the study is intact: nas resume a"]
    assert not running.left()
    assert not list(running.files.iterdir())


def test_a_search_that_is_killed_leaves_no_ray_behind(search: Callable[[str], Search]) -> None:
    running = search("--workers 1").until_it_scores()
    assert running.fork.kill().returncode == -signal.SIGKILL
    end = time.monotonic() + 30  # on a busy machine; a few seconds on a quiet one
    while running.left():
        assert time.monotonic() < end, running.left()
        time.sleep(0.1)


def test_a_candidate_that_hangs_fails_with_the_reason(search: Callable[[str], Search]) -> None:
    ended: Ended = search("--workers 1 --timeout 3 --trials 2").fork.wait(timeout=300)
    assert ended.returncode == 1
    assert "no answer within 3 s" in ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr
