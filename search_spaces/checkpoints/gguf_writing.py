"""A model of ours as one file in GGUF, for llama.cpp: metadata, tokenizer and tensors of a given type.

    family, config, form = gguf_form(spec)             # or why no architecture of llama.cpp has the network
    write_gguf(model, path, weights="Q8_0")

Names are those of `families.gguf_names`, read backwards. Matrices are packed by the package `gguf`, as in
llama.cpp's `ggml-quants.c`: Q8_0 has 32 weights to a scale, Q4_0 as well, in 4 bits. Vectors stay float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from foundation.errors import NasError, SettingError
from search_spaces.checkpoints.gguf import configuration_of
from search_spaces.checkpoints.gguf_tokenizer import gguf_tokens
from search_spaces.checkpoints.writing import Chosen, forms, in_form
from search_spaces.families.base import Family, config_of, families, spec_of, tensors_of
from search_spaces.families.config import Config
from search_spaces.families.gguf_names import KEYS, GgufNames
from search_spaces.network.decoder import Decoder
from search_spaces.network.model import Model
from search_spaces.tensor_files import Stored

TYPES = ("F32", "F16", "Q8_0", "Q4_0")
GROUP = 32
"""Weights of a row that packed types store together; rows of other lengths stay in float16."""

FLOATING = ("epsilon", "freq_base", "factor", "scale")
"""Parts of the names of metadata that are floating, also where their value is whole."""


def gguf_form(spec: Decoder) -> Chosen:
    """The family that llama.cpp knows and that has a network, its configuration, and the form it has there.

    Raises:
        SettingError: there is none.
    """
    reasons = []
    for family in families.values():
        for form in forms(spec) if family.gguf else ():
            try:
                config = config_of(family, form)
                _require_same(family, config, form)
            except SettingError as error:
                reasons.append(str(error))
            else:
                return family, config, form
    near = [why for why in reasons if "has no layer like" not in why] or reasons
    known = ", ".join(sorted(family.name for family in families.values() if family.gguf))
    raise SettingError(
        f"llama.cpp has it in none of the architectures known here ({known}); nearest: {near[0]}"
    )


@torch.no_grad()
def write_gguf(
    model: Model,
    path: Path,
    *,
    weights: str,
    context: int,
    title: str = "nas",
    tokenizer: bytes | None = None,
    tokens: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write a model; what is to be told: its architecture, tensors by type, and why there is no tokenizer.

    `context` is what programs take for the longest text, `tokens` are the numbers of special tokens by key.

    Raises:
        SettingError: llama.cpp has no such network.
    """
    import gguf

    family, config, form = gguf_form(model.spec)
    names = family.gguf
    assert names is not None
    writer: Any = gguf.GGUFWriter(path, names.architecture)
    writer.add_name(title)
    writer.add_file_type(gguf.LlamaFileType[f"ALL_{weights}" if weights == "F32" else f"MOSTLY_{weights}"])
    known = _metadata(names, config) | {"context_length": context, "vocab_size": model.spec.vocab}
    for key, value in known.items():
        _add(writer, f"{names.architecture}.{key}", value)
    why = _add_tokens(writer, tokenizer, model.spec.vocab, tokens or {})
    counts: dict[str, int] = {}
    for name, tensor in _tensors(family, config, in_form(model, form)).items():
        kind = _type_of(tensor, weights)
        counts[kind] = counts.get(kind, 0) + 1
        values = _for_llama_cpp(names, config, name, tensor).numpy()
        packed = gguf.quants.quantize(values, gguf.GGMLQuantizationType[kind])
        writer.add_tensor(names.from_tensor(name), packed, raw_dtype=gguf.GGMLQuantizationType[kind])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    told = {"architecture_of_llama_cpp": names.architecture, "tensors": counts}
    return told | ({"without_tokenizer": why} if why else {})


def _require_same(family: Family, config: Mapping[str, Any], form: Decoder) -> None:
    """Raise `SettingError` unless what a file can say of a network is all that there is to it."""
    with torch.device("meta"):
        model = Model(form)
    names = family.gguf
    assert names is not None
    about = {
        name: Stored("F32", tuple(tensor.shape))
        for name, tensor in _tensors(family, config, dict(model.named_parameters())).items()
    }
    metadata = {f"{names.architecture}.{key}": value for key, value in _metadata(names, config).items()}
    where = f"GGUF ({names.architecture})"
    try:
        again = spec_of(family, Config(configuration_of(Path(where), family, metadata, about), where))
    except NasError as error:
        raise SettingError(f"{names.architecture}: {error}") from None
    if again != form:
        raise SettingError(
            f"a file of {names.architecture} cannot say all of it: it would come back as {again}"
        )


def _metadata(names: GgufNames, config: Mapping[str, Any]) -> dict[str, Any]:
    """What a file says of a configuration, by key."""
    flat = _flat(config)
    found = {own: flat[key] for key, own in (KEYS | dict(names.keys)).items() if flat.get(key) is not None}
    if found.get("rope.scaling.type") == "default":
        del found["rope.scaling.type"]
    head = found.get("attention.key_length")
    return found | ({"attention.value_length": head, "rope.dimension_count": head} if head else {})


def _flat(values: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """A configuration without objects in it: `rope_parameters.rope_theta`."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= _flat(value, f"{before}{key}.") if isinstance(value, Mapping) else {before + key: value}
    return found


def _tensors(family: Family, config: Mapping[str, Any], ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors by the names of transformers."""
    labels = family.stack.read(family.modern(Config(dict(config))))
    return tensors_of(family, labels, ours)


def _type_of(tensor: Tensor, weights: str) -> str:
    if tensor.dim() < 2:
        return "F32"
    return "F16" if weights.startswith("Q") and tensor.shape[-1] % GROUP else weights


def _for_llama_cpp(names: GgufNames, config: Mapping[str, Any], name: str, tensor: Tensor) -> Tensor:
    """The values as they lie in a file: see `GgufNames`."""
    part = name.rpartition(".")[0]
    if names.turned and part.endswith(names.turned):
        heads = config["num_key_value_heads" if part.endswith("k_proj") else "num_attention_heads"]
        tensor = tensor.unflatten(0, (heads, 2, -1)).transpose(1, 2).flatten(0, 2)
    if names.plus_one and part.endswith(names.plus_one):
        tensor = tensor + 1
    return tensor.contiguous()


def _add(writer: Any, key: str, value: Any) -> None:
    """One entry of metadata, of the type that llama.cpp reads."""
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    elif isinstance(value, float) or any(part in key for part in FLOATING):
        writer.add_float32(key, float(np.float32(value)))
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    else:
        writer.add_array(key, list(value))


def _add_tokens(writer: Any, tokenizer: bytes | None, vocab: int, special: Mapping[str, Any]) -> str:
    """The tokenizer; why the file has none, or nothing where it has."""
    found, why = gguf_tokens(tokenizer, vocab)
    if found is None:
        writer.add_tokenizer_model("none")
        return why
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(found.rule)
    writer.add_token_list(found.tokens)
    writer.add_token_types(found.kinds)
    writer.add_token_merges(found.merges)
    for key, add in (("bos_token_id", writer.add_bos_token_id), ("eos_token_id", writer.add_eos_token_id)):
        if isinstance(special.get(key), int):
            add(special[key])
    return ""
