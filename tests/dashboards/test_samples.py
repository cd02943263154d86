"""A network writes a text on its page, in the background; the commands beside it are ones that `nas` has."""

from __future__ import annotations

import json
import shlex
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from typer.testing import CliRunner

from dashboards.app import samples as module
from dashboards.app.live_store import key_of
from dashboards.app.sample_view import sample_text
from dashboards.app.samples import LONGEST_PROMPT, Sample, Samples
from dashboards.app.shell import Shell
from dashboards.facts import Facts
from dashboards.pages.network import Network
from dashboards.shell_commands import network_commands
from foundation.errors import SettingError
from nas import cli
from nas.study.open_study import open_study
from nas.study.study import Study
from search_spaces.network.generation import Generation
from search_spaces.network.model import Model, build
from tests.evaluators import tiny


def ended(sample: Sample | None) -> Sample:
    assert sample is not None
    until = time.monotonic() + 60
    while not sample.ended:
        assert time.monotonic() < until
        time.sleep(0.01)
    return sample


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Model:
    """In the place of the weights of a study, of which made-up ones have none."""
    made = build(tiny.decoder(), seed=0)
    monkeypatch.setattr(module, "task_of", lambda study: tiny.task(tmp_path))
    monkeypatch.setattr(module, "best_weights", lambda *which, **more: (made, {"weights": "of a test"}))
    return made


def test_a_network_writes_what_its_model_draws(full: Study, made_store: Path, model: Model) -> None:
    samples, trial = Samples(f"sqlite:///{made_store}"), full.complete()[0]
    assert samples.of(full, trial, "the cat", start=False) is None
    sample = ended(samples.of(full, trial, "the cat", start=True))
    tokens = torch.tensor([list(b"the cat")])
    drawn = model.stream(tokens, Generation(new_tokens=module.TOKENS), torch.Generator().manual_seed(0))
    assert sample.text == bytes(int(token) for token in drawn).decode("utf-8", "replace")
    assert (sample.error, sample.weights) == ("", "of a test")
    assert samples.of(full, trial, "the cat", start=True) is sample, "it is not written twice"


def test_a_text_ends_after_some_time(
    full: Study, made_store: Path, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SECONDS", 0.0)
    sample = ended(Samples(f"sqlite:///{made_store}").of(full, full.complete()[0], "a", start=True))
    assert not sample.error
    assert len(sample.text) <= 1


def test_a_study_without_weights_writes_nothing_and_says_why(full: Study, made_store: Path) -> None:
    sample = ended(Samples(f"sqlite:///{made_store}").of(full, full.complete()[0], "a", start=True))
    assert sample.error
    assert sample.text == ""
    assert f"Not written: {sample.error}" in str(sample_text(sample))


@pytest.mark.parametrize("prompt", ["", "x" * (LONGEST_PROMPT + 1)])
def test_a_prompt_has_some_characters(full: Study, made_store: Path, prompt: str) -> None:
    with pytest.raises(SettingError, match="a prompt has from 1 to"):
        Samples(f"sqlite:///{made_store}").of(full, full.complete()[0], prompt, start=True)


def test_a_text_is_shown_as_text() -> None:
    shown = json.dumps(
        sample_text(Sample(prompt="<b>", text="\x1b[2J\u202e<script>", weights="w", ended=True)),
        default=lambda part: part.to_plotly_json(),
    )
    assert "\\\\x1b[2J\\\\u202e<script>" in shown  # a component's text is escaped by the browser
    assert "still writing" not in shown
    assert "for 0 s" in str(sample_text(Sample()))


def test_the_page_answers_whatever_is_asked(shell: Shell) -> None:
    page = shell.pages["network"]
    assert isinstance(page, Network)
    key = f"{key_of(shell.live.store.study('full'))}/0"
    for clicks, prompt, which in ((None, "a", key), (1, "a", "gone@1/0"), (1, "a", None)):
        assert page.sample(clicks, None, prompt, which)[1] is True
    place = json.dumps(shell.page("/study/full/network"), default=lambda part: part.to_plotly_json())
    assert "network-prompt" in place


def test_the_commands_of_a_network_are_ones_that_nas_has(all_facts: dict[str, Facts]) -> None:
    """Each is parsed by the command that it names; none is run."""
    group: Any = typer.main.get_command(cli.app)
    known = network_commands(all_facts["full"].study, "0123456789ab", weights=True)
    assert {line.split()[1] for line in known.values()} == {
        *("show", "export", "generate", "train", "adapt", "serve")
    }
    for line in known.values():
        name, *words = shlex.split(line)[1:]
        with group.commands[name].make_context(name, words) as context:
            assert "0123456789ab" in " ".join(map(str, context.params.values()))
    bare = network_commands(all_facts["full"].study, "ab", weights=False)
    assert list(bare) == ["Show it in the terminal"], "nothing else can be done without weights"


@pytest.mark.slow
def test_a_page_writes_what_nas_generate_writes(searched: Path, tmp_path: Path) -> None:
    store = str(searched)
    study = open_study("s", store)
    trial = study.front()[0]
    sample = ended(Samples(f"sqlite:///{store}").of(study, trial, "def ", start=True))
    assert not sample.error
    folder = str(tmp_path / "out")
    assert (
        CliRunner().invoke(cli.app, ["export", "s", trial.digest, "-o", folder, "--store", store]).exit_code
        == 0
    )
    assert CliRunner().invoke(cli.app, ["generate", folder]).stdout == f"def {sample.text}\n"
