"""Blocks in a user's own file: listed, checked, and held to their promises before a search begins."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from foundation.errors import SpaceError
from nas.cli import app
from nas.study.own_blocks import blocks_in, check_own_blocks, own_kinds
from nas.study.space_files import load_space
from search_spaces import BrokenPromise
from search_spaces.spaces import spaces

FILE = '''"""A moving average."""
from search_spaces import Decoder, Layer, Space, one_of, repeat
from search_spaces.blocks.base import blocks
from search_spaces.blocks.swiglu import SwiGLU
from tests.blocks.wrong_blocks import EMA as Average, EMAMixer

@blocks.add
class EMA(Average):
    def build(self, d_model):
        return Mixer(self.decay, d_model, self.state(d_model))

class Mixer(EMAMixer):
    def step(self, x, state, position):
        y, state = super().step(x, state, position)
        return FACTOR * y, state

layer = Layer(sequence_mixer=EMA(decay=one_of(0.5, 0.9)), channel_mixer=SwiGLU(expansion=one_of(1, 2)))
space = Space(Decoder(d_model=16, layers=repeat(layer, depths=(1, 2))), name="averages")
'''


def written(folder: Path, factor: float) -> Path:
    file = folder / "ema.py"
    file.write_text(FILE.replace("FACTOR", str(factor)))
    return file


def test_blocks_of_a_file_are_found_by_name(tmp_path: Path) -> None:
    file = written(tmp_path, 1.0)
    assert [kind.__name__ for kind in blocks_in(str(file))] == ["EMA"]
    assert [kind.__name__ for kind in blocks_in(f"{file}:EMA")] == ["EMA"]
    with pytest.raises(SpaceError, match="did you mean 'EMA'"):
        blocks_in(f"{file}:EMB")
    with pytest.raises(SpaceError, match="is no file"):
        blocks_in("laptop")
    (tmp_path / "empty.py").write_text("")
    with pytest.raises(SpaceError, match="defines no block"):
        blocks_in(str(tmp_path / "empty.py"))


def test_a_space_of_a_wrong_block_is_refused_before_a_search(tmp_path: Path) -> None:
    right, wrong = (load_space(str(written(tmp_path, factor))) for factor in (1.0, 0.5))
    assert [kind.__name__ for kind in own_kinds(right)] == ["EMA"]
    check_own_blocks(right)
    with pytest.raises(BrokenPromise, match=r"step .* and forward differ.*nas blocks --check") as refusal:
        check_own_blocks(wrong)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", ["laptop", "hybrid_lm"])
def test_ready_made_spaces_have_no_blocks_of_ones_own(name: str) -> None:
    assert own_kinds(spaces[name]()) == []


def test_the_command_checks_and_lists_a_file(tmp_path: Path) -> None:
    shell = CliRunner()
    checked = shell.invoke(app, ["blocks", "--check", str(written(tmp_path, 1.0))])
    assert checked.exit_code == 0, checked.output
    assert "ok      decode equals prefill" in checked.output
    failed = shell.invoke(app, ["blocks", "--check", f"{written(tmp_path, 0.5)}:EMA"])
    assert failed.exit_code != 0
    assert "BROKEN  EMA(decay=0.9): step (position: an int) and forward differ" in failed.output
    listed = shell.invoke(app, ["blocks", "--from", str(tmp_path / "ema.py")])
    assert "A moving average." in listed.output
    assert "Mamba2" not in listed.output


def test_a_block_is_found_whatever_its_case_and_shows_its_import() -> None:
    shown = CliRunner().invoke(app, ["blocks", "rglru"])
    assert "from search_spaces.blocks.rglru import RGLRU" in shown.output
