"""Rows of `benchmarks.across_gpus`: what is made of tables and studies, and the page that tells of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.across_gpus import end_to_end, timing
from benchmarks.across_gpus.bench import Bench
from benchmarks.across_gpus.page import PAGE, SECTIONS, page
from benchmarks.common import RESULTS
from hw_profiles.latency.comparison import Comparison

TOLD = {"device": "2 x H", "torch": "2.11", "when": "2026-11-30T10:00:00+00:00", "command": "python -m ..."}
SCORED = {"gpus": 1, "actors": 1, "evaluator": "scratch", "busy": {"GPU 0": 0.9, "GPU 1": 0.0}}
ROWS: dict[str, list[dict[str, Any]]] = {
    "search": [
        {**SCORED, "an hour overall": 1000.0},
        {"gpus": 2, "actors": 2, "evaluator": "scratch", "failed": "took longer than 9 s"},
        {**SCORED, "gpus": 2, "actors": 2, "an hour overall": 1800.0, "busy": {"GPU 0": None}},
    ],
    "supernet": [
        {"gpus": 2, "batch": 32, "precision": "bfloat16", "compile": "inductor", "tokens_per_s": 2e5}
        | {"efficiency": 0.91}
    ],
    "winner": [
        {"method": "dp=2", "gpus": 2, "tokens_per_s": 1e5, "peak": 3.5e10, "compile": "inductor"},
        {"method": "tp=2", "gpus": 2, "tokens_per_s": 7e4, "peak": None},  # before anything was compiled
    ],
    "timing": [
        {"gpus": 2, "case": "busy", "parts": 90, "prefill_ms": 1.004, "decode_ms": 0.998, "agree": True}
    ],
    "end_to_end": [
        {"gpus": 2, "done": False, "seconds": 600.0, "front": 7, "stages": {"search": {"seconds": 90.0}}},
        {"gpus": 1, "done": True, "seconds": 1200.0, "front": 9, "stages": {"final": {"seconds": 30.0}}},
    ],
}
LINES = {
    "search": [
        "| from scratch | 1 | 1 | 1,000 | 1.00 | 90% |",
        "| from scratch | 2 | 1 | 1,800 | 0.90 | - |",
    ],
    "supernet": ["| 2 | 32 | bfloat16, compiled | 200 k | 0.91 |"],
    "winner": ["| dp=2 | 2 | inductor | 100 k | - | 35.0 |", "| tp=2 | 2 | none | 70 k | - | - |"],
    "timing": ["| 2 | while the others train | 90 | 1.004 | 0.998 |"],
    "end_to_end": ["| 2 | not done after 10.0 | 1.5 | - | - | 7 |", "| 1 | 20.0 | - | 0.5 | - | 9 |"],
}


def test_the_page_is_that_of_the_results() -> None:
    assert PAGE.read_text() == page(RESULTS), "run python -m benchmarks.across_gpus.page"


def test_a_row_that_was_not_run_says_so(tmp_path: Path) -> None:
    text = page(tmp_path)
    for section in SECTIONS:
        assert f"Not run yet: `python -m benchmarks.across_gpus.{section.name} --gpus 1 2`" in text


def test_every_row_has_its_table_and_what_failed_is_counted(tmp_path: Path) -> None:
    assert {section.name for section in SECTIONS} == ROWS.keys()
    for name, rows in ROWS.items():
        (tmp_path / f"across_gpus_{name}.json").write_text(json.dumps({**TOLD, "rows": rows}))
    lines = page(tmp_path).splitlines()
    for wanted in LINES.values():
        assert set(wanted) <= set(lines)
    assert "Not reached: 1 of 3 measurements." in lines


def test_a_row_of_which_nothing_was_reached_says_so(tmp_path: Path) -> None:
    (tmp_path / "across_gpus_timing.json").write_text(json.dumps({**TOLD, "rows": [{"failed": "no"}]}))
    assert "2 x H, torch 2.11, 2026-11-30, `python -m ...`. Nothing was reached." in page(tmp_path)


@pytest.mark.parametrize(("factor", "agree"), [(1.01, True), (1.05, False)])
def test_tables_agree_where_their_means_do(
    factor: float, agree: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {"prefill_ms": {str(i): factor for i in range(9)}, "decode_ms": {str(i): 1.0 for i in range(9)}}
    comparison = Comparison(circumstances="", ratios=found, alone=(0, 0))
    monkeypatch.setattr(timing, "compare", lambda one, other: comparison)
    row = timing.ratios(None, None)  # type: ignore[arg-type]
    assert row["prefill_ms"] == pytest.approx(factor)
    assert row["decode_ms, nine tenths"] == "1.000 to 1.000"
    assert (row["parts"], row["agree"]) == (9, agree)


def test_a_command_that_was_cut_off_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["end_to_end"])
    bench = Bench("end_to_end", Namespace(cpu=False, gpus=[2], limit=9.0, seconds=9.0))
    first = end_to_end.words_of(bench, tmp_path, ["--data", "texts"])
    assert first[2:5] == ["nas.cli", "search", "gpu"]
    assert {"--data", "texts", "--workers", "max", "--gpu-share", "1", "--yes"} <= set(first)
    (tmp_path / "begun.json").write_text("{}")
    again = end_to_end.words_of(bench, tmp_path, ["--data", "texts"])
    assert again[2:5] == ["nas.cli", "resume", "across"]
    assert {"--workers", "max", "--gpu-share", "1"} <= set(again)
    assert not {"--data", "--trials"} & set(again)


ROW = """
import argparse, sys, time
from pathlib import Path
from benchmarks.across_gpus.bench import Bench, Child
Bench("none", argparse.Namespace(cpu=True, gpus=[1], limit=60.0, seconds=60.0))
child = Child("timeit", ["-n", "1", "-r", "1", "import time; time.sleep(60)"], Path(sys.argv[1]))
print(child.process.pid, flush=True)
child.result(60.0)
"""


def test_a_row_that_is_ended_ends_its_measurement(tmp_path: Path) -> None:
    words = [sys.executable, "-c", ROW, str(tmp_path / "output")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as row:
        assert row.stdout is not None
        child = int(row.stdout.readline())
        os.kill(child, 0)
        row.terminate()
        assert row.wait(30) == 128 + signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
