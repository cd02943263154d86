"""Files in GGUF against the same model in transformers, written by the rules of llama.cpp's converter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from foundation.errors import FileError, SettingError
from nas.exports.base import Network, target_of
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.mamba import Mamba
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.checkpoints.against_transformers import compared
from search_spaces.checkpoints.gguf_tokenizer import gguf_tokens, tokenizer_of
from search_spaces.checkpoints.reading import filled, open_checkpoint, plan_of
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.model import build
from tests.families.tiny import made

gguf = pytest.importorskip("gguf")
pytest.importorskip("transformers")

NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def interleaved(weight: np.ndarray[Any, Any], heads: int) -> np.ndarray[Any, Any]:
    """Rows as llama.cpp wants them where it turns channels beside each other."""
    rows = weight.reshape(heads, 2, -1, *weight.shape[1:]).swapaxes(1, 2)
    return np.ascontiguousarray(rows.reshape(weight.shape))


def written(folder: Path, file: Path, architecture: str, **extra: Any) -> Path:
    """A folder of transformers as one file."""
    config = json.loads((folder / "config.json").read_text())
    writer = gguf.GGUFWriter(file, architecture)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(512)
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_key_length(config["head_dim"])
    for key, value in extra.items():
        writer.add_string(f"{architecture}.{key.replace('_', '.')}", value)
    for name, tensor in load_file(folder / "model.safetensors").items():
        values, stem = tensor.numpy(), name.removesuffix(".weight")
        if architecture == "llama" and stem.endswith(("q_proj", "k_proj")):
            kind = "num_attention_heads" if stem.endswith("q_proj") else "num_key_value_heads"
            values = interleaved(values, config[kind])
        if stem.startswith("model.layers."):
            _, _, index, part = stem.split(".", 3)
            stem = f"blk.{index}.{NAMES[part]}"
        else:
            stem = NAMES[stem]
        writer.add_tensor(f"{stem}.weight", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


@pytest.mark.parametrize(("name", "architecture"), [("smollm2", "llama"), ("qwen3", "qwen3")])
def test_a_file_is_the_model_that_it_was_written_from(name: str, architecture: str, tmp_path: Path) -> None:
    folder = made(name, tmp_path / "theirs")
    file = written(folder, tmp_path / "model.gguf", architecture)
    with open_checkpoint(file) as checkpoint:
        plan = plan_of(checkpoint)
        model = filled(plan, checkpoint)
        assert plan.unread == []
        assert "only byte-level BPE" in checkpoint.without_tokenizer
    assert compared(model, folder).relative < 1e-5


@pytest.mark.parametrize("bytes_left", [3, 40, 900, -60])
def test_a_file_that_ends_early_is_damaged(bytes_left: int, tmp_path: Path) -> None:
    file = written(made("smollm2", tmp_path / "theirs"), tmp_path / "model.gguf", "llama")
    file.write_bytes(file.read_bytes()[:bytes_left])
    with pytest.raises(FileError, match=r"model\.gguf is (damaged|no file in GGUF)"), open_checkpoint(file):
        pass


def test_what_a_file_has_and_we_lack_is_named(tmp_path: Path) -> None:
    folder = made("smollm2", tmp_path / "theirs")
    file = written(folder, tmp_path / "model.gguf", "lama")
    with (
        pytest.raises(SettingError, match=r"'lama' is an architecture .* mean 'llama'"),
        open_checkpoint(file),
    ):
        pass
    scaled = written(folder, tmp_path / "scaled.gguf", "llama", rope_scaling_type="longrope")
    with open_checkpoint(scaled) as checkpoint, pytest.raises(SettingError, match="got 'longrope'"):
        plan_of(checkpoint)


def test_a_tokenizer_cuts_text_as_its_rule_says() -> None:
    tokenizers = pytest.importorskip("tokenizers")
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    metadata = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": ["<end>", *alphabet, "Ġt", "12"],
        "tokenizer.ggml.merges": ["Ġ t", "1 2"],
        "tokenizer.ggml.token_type": [3],
    }
    content, why = tokenizer_of(metadata)
    assert content is not None, why
    tokenizer = tokenizers.Tokenizer.from_str(content.decode())
    assert tokenizer.encode(" t12<end>").tokens == ["Ġt", "1", "2", "<end>"]  # digits stay apart
    assert tokenizer.decode(tokenizer.encode("é 漢\n").ids) == "é 漢\n"
    assert tokenizer_of({**metadata, "tokenizer.ggml.pre": "other"})[0] is None
    assert tokenizer_of({**metadata, "tokenizer.ggml.model": "llama"})[0] is None


def test_bfloat16_is_read_as_it_is(tmp_path: Path) -> None:
    from gguf.quants import quantize

    values = torch.randn(4, 32)
    writer = gguf.GGUFWriter(tmp_path / "x.gguf", "llama")
    kinds = gguf.GGMLQuantizationType
    for name, kind in {"a": kinds.BF16, "b": kinds.F16, "c": kinds.Q8_0}.items():
        packed = values.half().numpy() if kind is kinds.F16 else quantize(values.numpy(), kind)
        writer.add_tensor(name, packed, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with open_checkpoint(tmp_path / "x.gguf") as checkpoint:
        assert {name: str(about) for name, about in checkpoint.about.items()} == {
            "a": "BF16 [4, 32]",
            "b": "F16 [4, 32]",
            "c": "F32 [4, 32]",
        }
        torch.testing.assert_close(checkpoint["a"], values.bfloat16())
        torch.testing.assert_close(checkpoint["b"], values.half())
        torch.testing.assert_close(checkpoint["c"], values, atol=0.02, rtol=0)


def vocabulary() -> bytes:
    """A tokenizer.json of SmolLM's rules for bytes, a word and a special token."""
    tokenizers = pytest.importorskip("tokenizers")
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    metadata = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": ["<end>", *alphabet, "\u0120t"],
        "tokenizer.ggml.merges": ["\u0120 t"],
        "tokenizer.ggml.token_type": [3],
    }
    content, _ = tokenizer_of(metadata)
    assert content is not None
    return content


@pytest.mark.parametrize("name", ["llama", "qwen2", "qwen3", "smollm3"])
def test_what_is_written_comes_back_bit_by_bit(name: str, tmp_path: Path) -> None:
    with open_checkpoint(made(name, tmp_path / "theirs")) as checkpoint:
        model = filled(plan_of(checkpoint), checkpoint)
    told = target_of("gguf,weights=F32").export(Network(model), tmp_path / "out")
    assert told["differences"] == {"prefill": 0.0, "decode": 0.0}
    assert told["without_tokenizer"] == "the network has no tokenizer"
    file = tmp_path / "out/model.gguf"
    with open_checkpoint(file) as checkpoint:
        again = filled(plan_of(checkpoint), checkpoint)
    assert again.spec == model.spec
    assert all(map(torch.equal, model.parameters(), again.parameters()))
    if name == "llama":  # what another reader makes of it
        assert compared(model, file).relative < 1e-5


@pytest.mark.parametrize(("weights", "relative"), [("F16", 2e-3), ("Q8_0", 0.02), ("Q4_0", 0.3)])
def test_weights_are_packed_by_the_law_of_their_type(weights: str, relative: float, tmp_path: Path) -> None:
    attention = Attention(num_heads=4, num_kv_heads=2, head_dim=16)
    layer = Layer(sequence_mixer=attention, channel_mixer=SwiGLU(expansion=2))
    model = build(Decoder(vocab=300, d_model=64, layers=(layer, layer)), seed=2)
    network = Network(model, {"tokens": {"eos_token_id": 0}}, tokenizer=vocabulary())
    told = target_of(f"gguf,weights={weights},context=77").export(network, tmp_path / "out")
    assert told["tensors"] == {weights: 15, "F32": 5}
    with open_checkpoint(tmp_path / "out/model.gguf") as checkpoint:
        again = filled(plan_of(checkpoint), checkpoint)
        assert checkpoint.config.get("max_position_embeddings") == 77
        assert checkpoint.tokenizer is not None
        tokens = json.loads(checkpoint.tokenizer)["model"]["vocab"]
    expected = json.loads(vocabulary())["model"]["vocab"]
    assert tokens == expected | {f"[PAD{index}]": index for index in range(258, 300)}
    ours, theirs = (m.layers[0].channel_mixer.mixer.down.detach() for m in (model, again))
    if weights == "F16":
        assert torch.equal(ours.half().float(), theirs)
        return
    bits = int(weights[1])
    groups = ours.unflatten(-1, (-1, 32))
    largest = groups.abs().amax(-1, keepdim=True) / 2 ** (bits - 1)
    error = (groups - theirs.unflatten(-1, (-1, 32))).abs()
    assert bool(
        (error <= 1.02 * largest).all()
    )  # one step at most: scales are float16, 4 bits are cut at one end
    assert float((ours - theirs).norm() / ours.norm()) < relative


def test_what_llama_cpp_does_not_know_is_refused_before_anything_is_written() -> None:
    mamba = Decoder(d_model=16, layers=(Layer(sequence_mixer=Mamba()),))
    with pytest.raises(SettingError, match=r"llama\.cpp has it in none of .*llama, qwen2"):
        target_of("gguf").require(mamba)
    window = Attention(num_heads=4, num_kv_heads=2, head_dim=16, window=8)
    layer = Layer(sequence_mixer=window, channel_mixer=SwiGLU())
    with pytest.raises(SettingError, match="none of the architectures known here"):
        target_of("gguf").require(Decoder(d_model=64, layers=(layer,)))
    word_level = json.dumps({"model": {"type": "WordLevel"}}).encode()
    assert gguf_tokens(word_level, 4)[1].startswith("its tokenizer is 'WordLevel'")
    plain = json.loads(vocabulary())
    plain["pre_tokenizer"] = {"type": "Whitespace"}
    assert gguf_tokens(json.dumps(plain).encode(), 258)[1].startswith("its tokenizer cuts words by none")
