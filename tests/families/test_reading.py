"""Checkpoints of others: whole ones in shards, and every kind of damaged, hostile or foreign one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import nas
from foundation.errors import EvaluationFailed, FileError, NasError, SettingError
from nas import cli
from nas import imports as importing
from nas.exports.base import Network, target_of
from search_spaces.checkpoints import reading
from search_spaces.checkpoints.reading import filled, open_checkpoint, plan_of
from search_spaces.network.model_files import load_model, read_config, read_tokenizer
from tests.families.tiny import made

pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made("llama", tmp_path_factory.mktemp("llama") / "whole")


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made("llama", tmp_path_factory.mktemp("llama") / "shards", shards="60kB")


@pytest.fixture
def copy(llama: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(llama, tmp_path / "copy"))


@pytest.fixture
def shards(sharded: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sharded, tmp_path / "copy"))


def words(count: int) -> bytes:
    """A tokenizer of so many words."""
    vocab = {f"w{i}": i for i in range(count)}
    text: str = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocab, unk_token="w0")).to_str()
    return text.encode()


def edit(file: Path, **values: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def test_shards_are_one_model(llama: Path, sharded: Path) -> None:
    assert len(list(sharded.glob("*.safetensors"))) > 2
    models = []
    for folder in (llama, sharded):
        with open_checkpoint(folder) as checkpoint:
            models.append(filled(plan_of(checkpoint), checkpoint))
    for one, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(one, other)


def test_an_imported_model_is_an_exported_one_with_its_tokenizer(copy: Path, tmp_path: Path) -> None:
    (copy / "tokenizer.json").write_bytes(words(2))
    imported = nas.import_model(copy, tmp_path / "parent", check=True)
    assert imported.difference is not None
    assert imported.difference.relative < 1e-5
    model = nas.load(tmp_path / "parent")
    assert model.spec == imported.spec
    assert read_tokenizer(tmp_path / "parent") == words(2)
    assert read_config(tmp_path / "parent")["about"]["family"] == "llama"
    with open_checkpoint(copy) as checkpoint:
        same = filled(plan_of(checkpoint), checkpoint)
    for one, other in zip(model.parameters(), same.parameters(), strict=True):
        assert torch.equal(one, other)  # nothing is rounded to bfloat16

    with pytest.raises(SettingError, match="force"):
        nas.import_model(copy, tmp_path / "parent")
    (copy / "tokenizer.json").unlink()
    nas.import_model(copy, tmp_path / "parent", force=True)
    assert read_tokenizer(tmp_path / "parent") is None


def test_a_tokenizer_of_another_model_is_refused(copy: Path, tmp_path: Path) -> None:
    (copy / "tokenizer.json").write_bytes(words(2))
    nas.import_model(copy, tmp_path / "parent")
    (tmp_path / "parent/tokenizer.json").write_bytes(b"{ }")
    with pytest.raises(SettingError, match="is not the one that"):
        read_tokenizer(tmp_path / "parent")


@pytest.mark.parametrize(
    ("text", "message"),
    [(b'{"a": 1', "is no tokenizer.json"), (b"{}", "is no tokenizer.json"), (None, "and the model")],
)
def test_a_tokenizer_that_is_none_or_has_too_many_tokens_is_refused(
    text: bytes | None, message: str, copy: Path, tmp_path: Path
) -> None:
    (copy / "tokenizer.json").write_bytes(words(5000) if text is None else text)
    with pytest.raises(SettingError, match=message):
        nas.import_model(copy, tmp_path / "parent")
    assert not (tmp_path / "parent").exists()


def test_an_export_to_transformers_is_compared_when_it_is_written(llama: Path, tmp_path: Path) -> None:
    nas.import_model(llama, tmp_path / "parent")
    network = Network(load_model(tmp_path / "parent"), read_config(tmp_path / "parent")["about"])
    told = target_of("hf,family=llama").export(network, tmp_path / "hf")
    assert max(told["differences"].values()) < 1e-4
    config = json.loads((tmp_path / "hf/config.json").read_text())
    assert (config["architectures"], config["eos_token_id"]) == (["LlamaForCausalLM"], 2)
    original, written = load_file(llama / WEIGHTS), load_file(tmp_path / "hf" / WEIGHTS)
    assert set(original) == set(written)
    for name, tensor in original.items():
        assert torch.equal(written[name], tensor)
    with pytest.raises(SettingError, match="did you mean 'llama'"):
        target_of("hf,family=lama").export(network, tmp_path / "other")


def pickled(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "pytorch_model.bin")


def truncated(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-100])


def no_header(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(b"\xff" * 64)


def with_tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def wrong(folder: Path) -> None:
        tensors = load_file(folder / WEIGHTS)
        change(tensors)
        save_file(tensors, folder / WEIGHTS)

    return wrong


def with_config(**values: Any) -> Callable[[Path], None]:
    return lambda folder: edit(folder / "config.json", **values)


def packed(tensors: dict[str, torch.Tensor]) -> None:
    tensors["model.norm.weight"] = tensors["model.norm.weight"].to(torch.int8)


def infinite(tensors: dict[str, torch.Tensor]) -> None:
    tensors["model.norm.weight"][3] = float("inf")


WRONG: dict[str, tuple[Callable[[Path], object], str]] = {
    "a pickle": (pickled, r"pickle \(pytorch_model.bin\), which would run as a program"),
    "a file that ends early": (truncated, r"model.safetensors is damaged"),
    "no header": (no_header, r"model.safetensors is damaged"),
    "no weights": (lambda folder: (folder / WEIGHTS).unlink(), r"holds no weights"),
    "no configuration": (lambda folder: (folder / "config.json").unlink(), r"config.json is missing"),
    "no object": (lambda folder: (folder / "config.json").write_text("[]"), r"is no configuration"),
    "no family": (with_config(model_type=None), r"model_type is missing"),
    "an unknown family": (with_config(model_type="lama"), r"'lama' is an architecture .* mean 'llama'\?"),
    "a family with what we lack": (
        with_config(model_type="zamba2"),
        r"zamba2 is not read: its shared attention .* with adapters .*, which no block here does",
    ),
    "a foreign family": (with_config(model_type="t5"), r"'t5' is an architecture that is not known here"),
    "scaled positions": (
        with_config(rope_parameters={"rope_type": "longrope", "rope_theta": 1e4}),
        r"rope_parameters.rope_type must be default, linear, .*got 'longrope'",
    ),
    "older scaled positions": (
        with_config(rope_parameters=None, rope_scaling={"type": "dynamic", "factor": 2.0}),
        r"rope_type must be default, .*got 'dynamic'",
    ),
    "positions scaled by nothing": (
        with_config(rope_parameters={"rope_type": "linear", "rope_theta": 1e4}),
        r"rope_parameters.factor is missing",
    ),
    "another activation": (with_config(hidden_act="gelu"), r"hidden_act must be 'silu' or 'swish'"),
    "packed by a library": (with_config(quantization_config={"bits": 4}), r"quantization_config"),
    "a word for a number": (with_config(hidden_size="48"), r"hidden_size must be a positive whole number"),
    "a number for a switch": (with_config(attention_bias=1), r"attention_bias must be False or True, got 1"),
    "no heads": (with_config(num_attention_heads=0), r"num_attention_heads must be a positive whole number"),
    "heads of no group": (with_config(num_attention_heads=5, head_dim=12), r"num_heads=5 must be a multiple"),
    "a list of heads": (with_config(num_attention_heads=[4]), r"num_attention_heads must be a positive"),
    "too large to exist": (with_config(vocab_size=2**40), r"too large"),
    "too many layers": (with_config(num_hidden_layers=4), r"layers\.3\.\S+ is missing"),
    "layers beyond number": (
        with_config(num_hidden_layers=10**9),
        r"num_hidden_layers must be at most 10000",
    ),
    "a layer too many": (with_config(num_hidden_layers=2), r"no place for model\.layers\.2"),
    "another width": (with_config(hidden_size=64), r"should have shape \[61, 64\], and has \[61, 48\]"),
    "packed weights": (with_tensors(packed), r"model.norm.weight holds I8"),
    "infinite weights": (with_tensors(infinite), r"norm would have values that are not finite"),
    "another head": (
        with_tensors(lambda t: t.__setitem__("lm_head.weight", t["model.embed_tokens.weight"] + 1)),
        r"lm_head.weight is not model.embed_tokens.weight",
    ),
    "no head": (with_config(tie_word_embeddings=False), r"lm_head.weight is missing"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_checkpoint_is_refused_in_one_line_and_nothing_is_written(
    name: str, copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage, message = WRONG[name]
    damage(copy)
    with pytest.raises((SettingError, FileError), match=message):
        nas.import_model(copy, tmp_path / "parent")
    assert cli.run(["import", str(copy), "-o", str(tmp_path / "parent")]) == cli.REFUSED
    printed = capsys.readouterr()
    assert not printed.out
    assert [line for line in printed.err.splitlines() if line.startswith("nas: ")]
    assert not (tmp_path / "parent").exists()


@pytest.mark.parametrize(
    ("home", "message"),
    [
        ("../other.safetensors", "an index names files of its folder"),
        ("/etc/passwd", "an index names files of its folder"),
        ("..", "an index names files of its folder"),
        (7, "an index names files of its folder"),
        ("model-00001-of-00003.bin", "only safetensors are read"),
        ("model-00009-of-00009.safetensors", "no such file"),
        ("model-00002-of-{}.safetensors", "which model.safetensors.index.json says it holds"),
    ],
)
def test_an_index_names_files_of_its_folder(home: Any, message: str, shards: Path) -> None:
    index = json.loads((shards / INDEX).read_text())
    first = next(name for name, file in index["weight_map"].items() if "00001" in file)
    count = next(iter(index["weight_map"].values())).rpartition("-")[2].partition(".")[0]
    named = home.format(count) if isinstance(home, str) else home
    edit(shards / INDEX, weight_map={**index["weight_map"], first: named})
    with pytest.raises(NasError, match=message), open_checkpoint(shards):
        pass


def test_a_damaged_shard_is_named(shards: Path) -> None:
    file = sorted(shards.glob("*.safetensors"))[1]
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(FileError, match=f"{file.name} is damaged"), open_checkpoint(shards):
        pass


def test_memory_is_asked_before_a_weight_is_read(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "memory_available", lambda: 1000)
    with open_checkpoint(llama) as checkpoint:
        monkeypatch.setattr(type(checkpoint), "__getitem__", lambda *_: pytest.fail("a weight was read"))
        with pytest.raises(SettingError, match=r"58,560 parameters, which take .* kB are free"):
            plan_of(checkpoint)


def test_a_model_of_this_project_is_none_of_others(llama: Path, tmp_path: Path) -> None:
    nas.import_model(llama, tmp_path / "parent")
    with pytest.raises(SettingError, match="there is nothing to import"):
        nas.import_model(tmp_path / "parent", tmp_path / "again")
    with pytest.raises(SettingError, match="is not empty and holds no exported model"):
        nas.import_model(llama, llama)


def test_a_model_that_computes_something_else_fails_its_check(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoiled(*given: Any) -> Any:
        model = filled(*given)
        with torch.no_grad():
            model.embedding[:, 0] += 1
        return model

    monkeypatch.setattr(importing, "filled", spoiled)
    with pytest.raises(EvaluationFailed, match="computed differently by transformers"):
        nas.import_model(llama, tmp_path / "parent", check=True)
    assert not (tmp_path / "parent").exists()


def test_the_command_says_what_came_of_it(
    llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(Path(shutil.copytree(llama, tmp_path / "more")) / "config.json", strange_factor=2.0)
    assert cli.run(["import", str(tmp_path / "more"), "-o", str(tmp_path / "parent"), "--check"]) == 0
    printed = capsys.readouterr().out
    assert "llama: 58,560 parameters" in printed
    assert "not known here, and left aside: strange_factor" in printed
    assert "largest difference of logits from transformers" in printed
    assert (tmp_path / "parent/config.json").is_file()
    assert cli.run(["import", str(llama)]) == cli.REFUSED
    assert "--output" in capsys.readouterr().err
