"""Every file of docs/extend.md works as it is shown: it is checked, searched, resumed and exported."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from foundation.text import count
from tests.docs.pages import ROOT, code_blocks
from tests.docs.shown import run_shown

PAGE = (ROOT / "docs/extend.md").read_text()
SECTIONS = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
SHOWN = {title: code_blocks(text) for title, text in SECTIONS.items() if code_blocks(text)}


def test_the_page_shows_a_block_an_objective_a_task_and_a_strategy() -> None:
    assert [title.split(",")[0] for title in SHOWN] == ["A block", "An objective", "A task", "A strategy"]
    for title, blocks in SHOWN.items():
        assert [(bool(block.file), block.language) for block in blocks] == [
            (True, "python"),
            (False, "sh"),
            (False, "python"),
        ], title
        lines = blocks[0].text.splitlines()
        assert 25 <= len(lines) <= 80, f"{blocks[0].file}: {count(len(lines), 'line')}"
        commands = [line.split()[1] for line in blocks[1].text.splitlines()]
        assert {"search", "resume", "export"} <= set(commands), title


@pytest.mark.parametrize("title", list(SHOWN))
def test_a_file_is_checked_searched_resumed_and_exported(
    title: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAS_CACHE", str(tmp_path / "cache"))
    for block in SHOWN[title]:
        for ended in run_shown(block, tmp_path):
            assert ended.returncode == 0, ended
            assert "Traceback" not in ended.stderr
    assert len(list((tmp_path / "studies").glob("*/report.html"))) >= 1
    exported = [path.parent for path in tmp_path.glob("*/model.safetensors")]
    assert exported
