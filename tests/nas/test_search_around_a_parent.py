"""Searches around a trained network, from the command line: a space, a search, a winner that is a model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import nas
from evaluators.tasks.base import tasks
from nas import cli
from nas.engines.base import PROPOSED_BY
from nas.steps.parent_baselines import FACT
from nas.study.task import doubt_of_tokens
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.model import build
from search_spaces.network.model_files import save_model
from search_spaces.network.options.mixture_of_depths import MixtureOfDepths

LAYER = Layer(sequence_mixer=Attention(num_heads=2, num_kv_heads=1, head_dim=8), channel_mixer=SwiGLU())
SPEC = Decoder(d_model=16, layers=(LAYER, LAYER))
SEARCH = "--window 32 --validation-windows 4 --trials 8"
EXACT = "--setting windows=2 --setting networks=3 --setting points=4 --setting least_tau=-1"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    save_model(build(SPEC, seed=1), folder / "parent", exact=True)
    text = "".join(f"{i} bottles of beer on the wall, take {i % 7} down. " for i in range(2000))
    (folder / "text.txt").write_text(text)
    return folder


@pytest.fixture(autouse=True)
def _there(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)


def run(capsys: pytest.CaptureFixture[str], line: str) -> None:
    code = cli.run(line.split())
    assert code == 0, capsys.readouterr().err
    capsys.readouterr()


def refused(capsys: pytest.CaptureFixture[str], line: str) -> str:
    assert cli.run(line.split()) == cli.REFUSED
    (told,) = capsys.readouterr().err.splitlines()
    return told


def test_a_winner_of_mixed_bits_is_a_model(capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, "space-around parent -o bits.py --bits 8,4,3 --force")
    run(capsys, f"search bits.py --name bits --data text.txt {SEARCH} {EXACT}")
    study = nas.open("bits")
    assert list(study.facts[FACT]) == [
        "the parent",
        "8 bits, to nearest",
        "4 bits, to nearest",
        "3 bits, to nearest",
    ]
    trials = study.trials()
    assert [trial.memo[PROPOSED_BY] for trial in trials[:5]] == ["uniform"] * 4 + ["exact"]
    parent = trials[0].values["bits_per_byte"].value
    assert parent == pytest.approx(study.facts[FACT]["the parent"]["bits_per_byte"], abs=1e-6)
    mixed = next(t for t in trials if len({layer.bits for layer in study.spec(t).layers}) > 1)
    run(capsys, f"export bits {mixed.number} -o winner --force")
    winner = nas.load("winner")
    assert winner.spec == study.spec(mixed)
    run(capsys, "generate winner --prompt bottles --new-tokens 2")


@pytest.mark.parametrize("more", [{"shared": "one"}, {"routing": MixtureOfDepths(capacity=0.5)}])
def test_a_parent_whose_parts_do_not_add_up_is_refused_at_once(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, more: dict[str, Any]
) -> None:
    layer = replace(LAYER, **more)
    save_model(build(replace(SPEC, layers=(layer, layer)), seed=1), tmp_path / "other", exact=True)
    told = refused(capsys, f"space-around {tmp_path / 'other'} -o {tmp_path / 'x.py'}")
    assert "so its parts cannot be replaced one by one" in told
    assert not (tmp_path / "x.py").exists()


def test_a_network_without_a_tokenizer_is_told_of(tmp_path: Path) -> None:
    task = tasks["language"].make(data="text.txt", length=32, windows=2)
    assert doubt_of_tokens(None, 256, task) == "", "bytes are what is read where nothing is said"
    assert "has no tokenizer" in doubt_of_tokens(None, 300, task)
    assert doubt_of_tokens(b"{}", 300, task) == ""


def test_a_parent_is_named_like_it_is(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    run(capsys, "space-around parent -o plain.py --force")
    assert "holds no exported model" in refused(capsys, "space-around . -o x.py")
    assert "there is no folder" in refused(capsys, "space-around parnet")
    assert "name one that `nas import`" in refused(capsys, "space-around first")  # a study is none
    assert "has no trained weights" in refused(capsys, "space-around zoo:mamba")
    assert "replace it with --force" in refused(capsys, "space-around parent -o plain.py")
    assert "a Python file" in refused(capsys, "space-around parent -o plain.txt")
    assert "holds no exported model" in refused(capsys, "search plain.py --parent . --name x")
    assert "does not hold the network of" in refused(
        capsys, f"search laptop --parent parent {SEARCH} --name x"
    )
    assert "leave --evaluator out" in refused(
        capsys, "search plain.py --evaluator scratch --engine ofa --name x"
    )
    assert not (home / "x.py").exists()
