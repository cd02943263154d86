"""The command line where it begins."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nas import cli

GONE = "import os; os.rmdir(os.getcwd())"
BEGIN = ("from nas.start import main; main()", "import runpy; runpy.run_module('nas', run_name='__main__')")


@pytest.mark.parametrize("begin", BEGIN, ids=["nas", "python -m nas"])
def test_a_current_folder_that_is_gone_is_one_line(tmp_path: Path, begin: str) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r}); {GONE}; {begin}"
    ended = subprocess.run([sys.executable, "-c", code, "ls"], cwd=gone, capture_output=True, text=True)
    assert ended.returncode == 2
    assert ended.stderr == "nas: the current folder is gone: change to one that exists\n"


def test_the_command_line_loads_no_large_library_but_torch() -> None:
    large = "pandas sqlalchemy scipy optuna ray plotly dash transformers torch._dynamo"
    code = f"import sys, nas.cli; print(*sorted(set('{large}'.split()) & set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.split() == []


def test_a_stop_that_comes_while_a_finalizer_runs_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    class Dying:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGTERM)

    before = {number: signal.getsignal(number) for number in cli.STOPS}
    monkeypatch.setattr(cli, "_received", [])
    monkeypatch.setattr(sys, "unraisablehook", cli._unraised)
    signal.signal(signal.SIGTERM, cli._stop)
    try:
        with pytest.raises(KeyboardInterrupt):
            [Dying() for _ in range(1)].clear() or time.sleep(10)
        assert cli._received == [signal.SIGTERM]
        assert signal.getsignal(signal.SIGTERM) is cli._stop_at_once
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
