"""The sweep of a block's learning rate, and the command that makes a recipe of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from evaluators import rate_sweep
from evaluators.rate_sweep import RateSweep, network_of, sweep_rates
from evaluators.training.recipe import Recipe
from foundation.errors import EvaluationFailed, SettingError, UnknownName
from nas import cli
from nas.rates import swept_blocks
from search_spaces.blocks.moe import MoE
from search_spaces.blocks.short_conv import ShortConv
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.space import Space
from search_spaces.network.model import build
from search_spaces.spaces import spaces
from search_spaces.supernet import Supernet
from tests.evaluators import tiny


def test_the_best_rate_is_the_bottom_of_a_parabola_through_the_best_three() -> None:
    sweep = RateSweep("X", {0.25e-2: 2.5, 0.5e-2: 2.1, 1e-2: 2.0, 2e-2: 2.1, 4e-2: 3.0})
    assert sweep.best == pytest.approx(1e-2)
    leaning = RateSweep("X", {0.5e-2: 2.05, 1e-2: 2.0, 2e-2: 2.3})
    assert 0.5e-2 < leaning.best < 1e-2
    assert RateSweep("X", {1e-2: 2.0, 2e-2: 2.3}).best == 1e-2
    with pytest.raises(EvaluationFailed, match="diverged at every rate"):
        _ = RateSweep("X", {}).best


class _Parabola:
    """Scores of a block whose best rate is 16 times its own; it diverges far beyond."""

    def __init__(self, task: object, recipe: Recipe, device: str) -> None:
        self.rate = recipe.rates_by_kind["ShortConv"]

    def score(self, *_: object) -> _Parabola:
        if self.rate > ShortConv.learning_rate * 40:
            raise EvaluationFailed("the training loss is nan")
        self.value = abs(self.rate / (ShortConv.learning_rate * 16) - 1)
        return self


def test_a_sweep_goes_on_where_the_best_lies_at_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rate_sweep, "FromScratch", _Parabola)
    told: list[float] = []
    recipe = Recipe(block_rates=("SwiGLU=0.01",))
    sweep = sweep_rates(
        ShortConv(), tiny.task(tmp_path), recipe=recipe, on_score=lambda rate, _: told.append(rate)
    )
    assert min(sweep.scores, key=sweep.scores.__getitem__) == pytest.approx(16 * ShortConv.learning_rate)
    assert told == sorted(told)


def test_a_real_sweep_scores_five_rates_on_the_same_batches(tmp_path: Path) -> None:
    task = tiny.task(tmp_path)
    first = sweep_rates(ShortConv(), task, steps=2)
    assert len(first.scores) >= 5
    assert first == sweep_rates(ShortConv(), task, steps=2)


def test_a_channel_mixer_stands_beside_an_attention() -> None:
    assert network_of(MoE(), 256).layers[0].channel_mixer == MoE()
    assert network_of(ShortConv(), 256).layers[0].sequence_mixer == ShortConv()


def test_one_block_of_each_kind_is_swept() -> None:
    space = spaces["laptop"]()
    kinds = [type(block).__name__ for block in swept_blocks(space)]
    assert len(kinds) == len(set(kinds))
    assert {"Attention", "Mamba2", "SwiGLU"} <= set(kinds)
    assert [type(block) for block in swept_blocks(space, ["swiglu"])] == [SwiGLU]
    with pytest.raises(UnknownName, match="SwiGLU"):
        swept_blocks(space, ["SwiGLUU"])


@pytest.mark.parametrize("text", ["Attention", "Attention=", "Attention=-1", "Attention=nan", "a b=0.1"])
def test_a_rate_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(SettingError, match="KIND=RATE"):
        Recipe(block_rates=(text,))


def test_rates_of_a_recipe_take_the_place_of_the_blocks_own() -> None:
    model, supernet = build(tiny.decoder()), Supernet(Space(tiny.decoder()))
    kind = type(model.spec.layers[0].sequence_mixer)
    own = {kind.__name__: 3 * kind.learning_rate}
    for before, after in (
        (model.learning_rates(), model.learning_rates(own)),
        (supernet.rates, supernet.learning_rates(own)),
    ):
        changed = {name for name in before if after[name] != before[name]}
        assert changed
        assert all(".sequence_mixer" in name for name in changed)
        assert all(after[name] == pytest.approx(3 * before[name]) for name in changed)


def test_the_command_writes_a_recipe_that_a_search_takes(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.mkdir()
    (text / "a.txt").write_text("to be or not to be, that is the question\n" * 2000)
    (text / "b.txt").write_text("whether it is nobler in the mind to suffer\n" * 2000)
    out = tmp_path / "tuned.recipe.json"
    words = ["tune-rates", "laptop", "--block", "ShortConv", "--steps", "10"]
    words += ["--data", str(text), "-O", str(out)]
    told = CliRunner().invoke(cli.app, words, catch_exceptions=False)
    assert told.exit_code == 0
    assert "ShortConv" in told.output
    rates = json.loads(out.read_text())["block_rates"]
    assert len(rates) == 1
    assert Recipe.from_word(str(out)).rates_by_kind.keys() == {"ShortConv"}
