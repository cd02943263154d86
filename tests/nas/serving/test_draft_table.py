"""The table of drafts: what was counted is what the engine counts, and the best is the best of all."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from foundation.errors import SettingError
from nas import cli
from nas.serving import draft_table as tables
from nas.serving.continuation import continued
from nas.serving.draft_settings import DraftSettings
from nas.serving.draft_table import DraftRow, Pass, choices, draft_table
from nas.serving.drafts import subnet
from nas.serving.drafts.base import Draft
from nas.serving.drafts.layers import FirstLayers
from nas.serving.drafts.network import SmallerNetwork
from nas.serving.drafts.ngram import NGram
from nas.serving.drafts.subnet import Subnet
from search_spaces.network.generation import Generation
from search_spaces.network.model_files import save_model
from tests.nas.serving.networks import network, prompt

FEW = DraftSettings(prompts=2, prompt_tokens=9, new_tokens=12, most=4)


@pytest.mark.parametrize("temperature", [0.0, 0.8])
@pytest.mark.parametrize("draft", [FirstLayers(first=1, tokens=4), NGram(shortest=1, tokens=4)])
def test_a_draft_is_right_as_often_as_the_engine_counts(draft: Draft, temperature: float) -> None:
    model, prompts = network("caches"), [prompt(9, 0), prompt(9, 1)]
    settings = FEW.with_settings({"temperature": temperature})
    (row,) = draft_table(model, prompts, [draft], settings).rows
    proposed = accepted = 0
    for each in prompts:
        told = continued(model, each, Generation(new_tokens=12, temperature=temperature), draft)
        assert len(list(told.tokens())) == 12
        proposed += told.engine.tally.proposed
        accepted += told.engine.tally.accepted
    assert sum(p.right for p in row.passes) == accepted
    assert sum(p.proposed for p in row.passes) == proposed
    assert row.bytes == 0


def test_the_network_itself_is_always_right(tmp_path: Path) -> None:
    model = network("recurrent")
    folder = save_model(model, tmp_path / "same")
    (row,) = draft_table(model, [prompt(9, 0)], [SmallerNetwork(folder=str(folder))], FEW).rows
    assert row.acceptance == 1
    assert row.bytes == sum(weight.nbytes for weight in model.parameters())
    assert row.most_ms > row.one_ms > 0


def test_time_is_that_of_proposing_and_reading_over_what_is_written() -> None:
    row = DraftRow(NGram(), (Pass(4, 4), Pass(2, 0), Pass(0, 0)), one_ms=1.0, most_ms=7.0, bytes=0)
    verify = [10.0, 11.0, 12.0, 13.0, 14.0]
    assert row.tokens(2) == pytest.approx(1 + 2 / 3)
    assert row.ms_per_token(2, verify) == pytest.approx((3.0 + (12 + 12 + 10) / 3) / (1 + 2 / 3))
    assert row.ms_per_token(4, verify) == pytest.approx((7.0 + (14 + 12 + 10) / 3) / (1 + 4 / 3))


def test_what_the_engine_takes_counts_for_every_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a draft a token takes 9 ms, 2 of them in the network."""
    model = network("recurrent")
    monkeypatch.setattr(tables, "_run_ms", lambda network, prompt, how, draft: 9.0 if draft is None else 4.0)
    monkeypatch.setattr(tables, "_step_ms", lambda network, text: 2.0)
    monkeypatch.setattr(tables, "_verify_ms", lambda network, text, most: [2.0] * most + [3.0])
    table = draft_table(model, [prompt(9, 0)], [FirstLayers(first=1)], FEW)
    assert table.step_ms == table.predicted[0] == 9.0
    assert table.verify_ms == (9.0, 9.0, 9.0, 9.0, 10.0)
    (row,) = table.rows
    assert table.best is not None
    assert table.predicted[1] == min(row.ms_per_token(k, table.verify_ms) for k in range(1, 5))
    assert table.measured == (9.0, 4.0)


@pytest.mark.parametrize(
    ("memory", "step", "best"), [(None, 10.0, "large"), (0.5, 10.0, "small"), (None, 1.0, None)]
)
def test_the_best_keeps_the_memory_and_may_be_none(
    memory: float | None, step: float, best: str | None
) -> None:
    large = DraftRow(SmallerNetwork(folder="large"), (Pass(4, 4),), 0.1, 0.4, bytes=2**20)
    small = DraftRow(SmallerNetwork(folder="small"), (Pass(4, 1),), 0.1, 0.4, bytes=2**18)
    chosen, ms = tables._best([small, large], step, [10.0, 10.1, 10.2, 10.3, 10.4], memory)
    assert getattr(chosen, "folder", None) == best
    if best == "small":
        assert chosen is not None
        assert chosen.tokens == 1  # further proposals are never right
    assert ms == pytest.approx({"large": 10.8 / 5, "small": 10.2 / 2, None: 1.0}[best])


def test_choices_are_of_all_kinds_that_need_no_more() -> None:
    found = choices(network("recurrent"))
    assert {draft.name for draft in found} == {"layers", "ngram"}


def test_a_subnet_is_that_of_the_study(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network("recurrent")
    asked: list[Any] = []

    def start_of(*words: Any, **more: Any) -> Any:
        asked.append((*words, more["store"]))
        return SimpleNamespace(model=model)

    monkeypatch.setattr(subnet, "start_of", start_of)
    row = draft_table(model, [prompt(9, 0)], [Subnet(study="first", trial="3", store="s.db")], FEW).rows[0]
    assert row.acceptance == 1
    assert set(asked) == {("first", "3", "s.db")}
    with pytest.raises(SettingError, match="study=NAME and trial=NUMBER"):
        Subnet(study="first").model(model)


def test_the_command_prints_every_draft_and_the_best(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(save_model(network("recurrent"), tmp_path / "winner"))
    text = tmp_path / "text.txt"
    text.write_text("one two three four five six seven. " * 800)
    words = [
        "drafts",
        "--network",
        folder,
        "--data",
        str(text),
        "--window",
        "32",
        "--validation-windows",
        "4",
    ]
    words += ["--prompts", "1", "--prompt-tokens", "8", "--new-tokens", "8", "--most", "2"]
    assert cli.run([*words, "--draft", f"network,folder={folder}"]) == 0
    out = capsys.readouterr().out
    assert "ngram,shortest=1" in out
    assert "layers" in out
    assert f"network,folder={folder}" in out
    assert "without a draft" in out
    assert cli.run(["drafts", "ngram", "--network", folder]) == cli.REFUSED
    assert cli.run(["drafts", "--network", folder, "--prompts", "0"]) == cli.REFUSED
    assert cli.run(["drafts", "--draft", "ngram"]) == cli.REFUSED
    assert "--draft and --study are tried on a network: name one (--network)" in capsys.readouterr().err
