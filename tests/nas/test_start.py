"""The command line where it begins."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

BEGIN = "import os, sys; os.rmdir(os.getcwd()); from nas.start import main; main()"


def test_a_current_folder_that_is_gone_is_one_line(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r}); {BEGIN}"
    ended = subprocess.run([sys.executable, "-c", code, "ls"], cwd=gone, capture_output=True, text=True)
    assert ended.returncode == 2
    assert ended.stderr == "nas: the current folder is gone: change to one that exists\n"


def test_the_command_line_loads_no_large_library_but_torch() -> None:
    large = "pandas sqlalchemy scipy optuna ray plotly dash transformers"
    code = f"import sys, nas.cli; print(*sorted(set('{large}'.split()) & set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.split() == []
