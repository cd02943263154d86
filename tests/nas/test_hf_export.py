"""Folders of transformers for networks that no class of it computes: they bring their own source."""

from __future__ import annotations

import json
import site
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import nas
from foundation.errors import SettingError
from nas.exports.base import Network, target_of
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.gated_delta_net import GatedDeltaNet
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.checkpoints.reading import open_checkpoint
from search_spaces.checkpoints.self_contained import byte_tokenizer
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.ends import Head
from search_spaces.network.model import Model, build
from search_spaces.network.options.early_exit import EarlyExit
from search_spaces.quantization.bits import Bits
from tests.blocks.wrong_blocks import EMA

pytest.importorskip("transformers")

PROMPT = b"def hello("


def hybrid() -> Model:
    """Recurrence and attention, shared weights, few bits and an exit: no class of transformers has it."""
    delta = Layer(sequence_mixer=GatedDeltaNet(num_heads=2, head_dim=8, state_dim=8), shared="a")
    attention = Attention(num_heads=2, num_kv_heads=1, head_dim=8, window=5)
    last = Layer(
        sequence_mixer=attention, channel_mixer=SwiGLU(), bits=Bits(weight=4), exit=EarlyExit(threshold=0.9)
    )
    # tied embeddings would repeat one token
    return build(Decoder(d_model=16, layers=(delta, last, delta), head=Head(tied=False)), seed=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hf") / "out"
    told = target_of("hf").export(Network(hybrid(), {"architecture": "a hybrid"}), path)
    assert told["family"] == "nas"
    assert told["class_of_its_own"].startswith("no class of transformers")
    assert all(difference < 1e-5 for difference in told["differences"].values())
    return path


def loaded(folder: Path) -> Any:
    import transformers

    return transformers.AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)


def test_generate_gives_our_text_by_a_copy_of_our_source(folder: Path) -> None:
    theirs, tokens = loaded(folder), torch.tensor([list(PROMPT), list(PROMPT[::-1])])
    assert type(theirs.network).__module__.startswith("transformers_modules.")
    ours = hybrid().eval().generate(tokens, 32)
    assert len(set(ours[0].tolist())) > 3
    for cached in (True, False):
        found = theirs.generate(tokens, max_new_tokens=32, do_sample=False, use_cache=cached)
        assert torch.equal(found[:, tokens.shape[1] :], ours)
    beams = [
        theirs.generate(tokens, max_new_tokens=9, num_beams=3, use_cache=cached) for cached in (True, False)
    ]
    assert torch.equal(*beams)


def test_it_learns_and_is_saved_and_refuses_padding(folder: Path, tmp_path: Path) -> None:
    theirs, tokens = loaded(folder), torch.tensor([list(PROMPT)])
    theirs(tokens, labels=tokens).loss.backward()
    assert theirs.network.embedding.grad is not None
    with pytest.raises(ValueError, match="padding cannot be masked"):
        theirs(tokens, attention_mask=torch.tensor([[0] + [1] * 9]))
    config = json.loads((folder / "config.json").read_text())
    assert (config["vocab_size"], config["network"]["type"]) == (256, "Decoder")
    assert "trust_remote_code=True" in (folder / "README.md").read_text()
    with pytest.raises(SettingError, match="exported by this project"), open_checkpoint(folder):
        pass
    with pytest.raises(SettingError, match="take the network that it was made of"):
        nas.load(folder)


def test_bytes_have_a_tokenizer(folder: Path) -> None:
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
    text = "naïve ∀ x .\x00 \n  y"
    assert tokenizer(text).input_ids == list(text.encode())
    assert tokenizer.decode(tokenizer(text).input_ids) == text
    assert sorted(json.loads(byte_tokenizer())["model"]["vocab"].values()) == list(range(256))


def test_blocks_of_your_own_are_refused_before_anything_is_written() -> None:
    with pytest.raises(SettingError, match="EMA is a part of your own"):
        target_of("hf").require(Decoder(d_model=8, layers=(Layer(sequence_mixer=EMA()),)))


@pytest.mark.slow
def test_it_opens_where_this_project_is_not_installed(folder: Path, tmp_path: Path) -> None:
    program = f"""
import sys
sys.path += {site.getsitepackages()!r}  # without the links that -S leaves out: this project is one
import importlib.util
assert not any(map(importlib.util.find_spec, ("nas", "search_spaces", "foundation")))
import torch, transformers
model = transformers.AutoModelForCausalLM.from_pretrained({str(folder)!r}, trust_remote_code=True)
print(model.generate(torch.tensor([list({PROMPT!r})]), max_new_tokens=32, do_sample=False)[0].tolist())
"""
    command = [sys.executable, "-S", "-I", "-c", program]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    ours = hybrid().eval().generate(torch.tensor([list(PROMPT)]), 32)
    assert json.loads(done.stdout.splitlines()[-1])[len(PROMPT) :] == ours[0].tolist()
