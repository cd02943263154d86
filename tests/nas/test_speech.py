"""A tokenizer goes along with a model, and the model speaks text."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from evaluators.corpus import load_corpus
from evaluators.tokens.token_corpus import prepared
from evaluators.tokens.tokenizer import Tokenizer
from foundation.errors import SettingError
from nas import cli
from nas.training.settings import TrainingSettings
from nas.training.start import start_of
from nas.training.train import train
from search_spaces.blocks.attention import Attention
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.generation import Generation
from search_spaces.network.model import Model, build
from search_spaces.network.model_files import load_model, read_tokenizer, save_model
from tests.evaluators.tokenizers_made import MADE, byte_level


def model(vocab: int = 260) -> Model:
    layer = Layer(sequence_mixer=Attention(num_heads=1, num_kv_heads=1, head_dim=8))
    return build(Decoder(vocab=vocab, d_model=16, layers=(layer,)), seed=0)


def written(folder: Path, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert cli.run(["generate", str(folder), *words]) == 0
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert cli.run([*words]) == 2
    *_, line = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize("name", ["byte_level", "sentence_piece"])
def test_a_model_continues_a_text_in_its_tokenizers_tokens(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizer = Tokenizer(MADE[name]())
    speaker = model(tokenizer.size + 4)
    save_model(speaker, tmp_path / "m", tokenizer=MADE[name]().encode())
    prompt = tokenizer.prompt("the \u20ac".encode())
    tokens = load_model(tmp_path / "m").generate(torch.tensor([prompt]), 20)[0].tolist()
    stream = tokenizer.stream(prompt)
    wanted = stream.begun + "".join(map(stream.push, tokens)) + stream.end() + "\n"
    assert (
        written(tmp_path / "m", capsys, "--prompt", "the \u20ac", "-n", "20", "--temperature", "0") == wanted
    )
    assert wanted.startswith("the \u20ac")


def test_bytes_are_spoken_as_before(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_model(model(256), tmp_path / "m")
    assert read_tokenizer(tmp_path / "m") is None
    tokens = load_model(tmp_path / "m").generate(torch.tensor([list(b"def ")]), 50, temperature=0.0)[0]
    text = (b"def " + bytes(tokens.tolist())).decode(errors="replace")
    assert written(tmp_path / "m", capsys, "-n", "50", "--temperature", "0") == text + "\n"


def test_text_appears_as_it_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    save_model(model(), tmp_path / "m", tokenizer=byte_level().encode())
    euro = list("\u20ac".encode())

    def stream(self: Model, tokens: torch.Tensor, how: Generation, dice: object) -> object:
        before = capsys.readouterr().out
        assert before == "the"
        for token in euro[:2]:
            yield torch.tensor([token])
            assert capsys.readouterr().out == ""
        yield torch.tensor([euro[2]])
        assert capsys.readouterr().out == "\u20ac"
        yield torch.tensor([euro[0]])

    monkeypatch.setattr(Model, "stream", stream)
    assert written(tmp_path / "m", capsys, "--prompt", "the") == "\ufffd\n"


def test_stream_and_generate_are_the_same() -> None:
    speaker, prompt = model(), torch.tensor([[1, 2, 3]])
    how = Generation(new_tokens=12, temperature=1.0)
    streamed = [int(t) for t in speaker.stream(prompt, how, torch.Generator().manual_seed(3))]
    dice = torch.Generator().manual_seed(3)
    assert speaker.generate(prompt, 12, temperature=1.0, dice=dice)[0].tolist() == streamed
    assert not any(value.requires_grad for value in speaker.stream(prompt, how))


def test_a_long_prompt_is_read_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    speaker, prompt = model().double(), torch.arange(23)[None]
    whole = speaker.generate(prompt, 9)
    monkeypatch.setattr("search_spaces.network.model.PROMPT_LOGITS", 5 * 260)
    read, prefill = list[int](), Model.prefill

    def noted(self: Model, tokens: torch.Tensor, *more: Any, **named: Any) -> object:
        read.append(tokens.shape[1])
        return prefill(self, tokens, *more, **named)

    monkeypatch.setattr(Model, "prefill", noted)
    assert torch.equal(speaker.generate(prompt, 9), whole)
    assert read == [5, 5, 5, 5, 3]


def test_a_tokenizer_that_does_not_fit_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_model(model(100), tmp_path / "small", tokenizer=byte_level().encode())
    assert "has 260 tokens, and the model 100" in refused(capsys, "generate", str(tmp_path / "small"))
    save_model(model(300), tmp_path / "none")
    said = refused(capsys, "generate", str(tmp_path / "none"))
    assert "has 300 tokens and no tokenizer: only a model of 256 bytes writes text" in said
    save_model(model(), tmp_path / "cut", tokenizer=byte_level()[:-20].encode())
    assert "tokenizer.json is no tokenizer.json: " in refused(capsys, "generate", str(tmp_path / "cut"))


@pytest.mark.parametrize("damage", ["missing", "other"])
def test_a_tokenizer_that_is_not_the_models_is_refused(
    tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    save_model(model(), tmp_path / "m", tokenizer=byte_level().encode())
    path = tmp_path / "m" / "tokenizer.json"
    path.unlink()
    if damage == "other":
        path.write_text(byte_level() + " ")
    assert "is missing, or is not the one that config.json" in refused(
        capsys, "generate", str(tmp_path / "m")
    )


def test_an_export_that_is_replaced_keeps_no_other_tokenizer(tmp_path: Path) -> None:
    save_model(model(), tmp_path, tokenizer=byte_level().encode())
    assert read_tokenizer(tmp_path) == byte_level().encode()
    os.rename(tmp_path / "tokenizer.json", tmp_path / ".tokenizer.json.new")  # as where it is killed there
    assert read_tokenizer(tmp_path) == byte_level().encode()
    save_model(model(256), tmp_path, force=True)
    assert read_tokenizer(tmp_path) is None
    assert not (tmp_path / "tokenizer.json").exists()


def test_training_further_asks_for_the_models_own_tokens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAS_CACHE", str(tmp_path / "cache"))
    text = tmp_path / "text.txt"
    text.write_text("".join(f"the {number} cats\n" for number in range(6000)))
    corpus = prepared(load_corpus(text), Tokenizer(byte_level()), tmp_path / "corpus")
    save_model(model(), tmp_path / "m", tokenizer=byte_level().encode())
    settings = {"steps": 2, "window": 16, "validation_windows": 4, "train_batch": 2}
    start = start_of(str(tmp_path / "m"))
    with pytest.raises(
        SettingError, match="the network has a tokenizer, and the data were not prepared with it"
    ):
        train(start, TrainingSettings(**settings, data=str(text)), tmp_path / "further")
    train(start, TrainingSettings(**settings, data=corpus.folder), tmp_path / "further")
    assert read_tokenizer(tmp_path / "further") == byte_level().encode()
    config = json.loads((tmp_path / "further" / "config.json").read_text())
    assert config["about"]["bits_per_byte"] > 0
