"""A model of ours as a folder of transformers with its own class: weights, configuration, and the source.

    write_self_contained(model, folder)
    AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)       # without this project

For networks that no class of transformers computes. What computes them is `modeling_nas` and a copy of what
that imports of this project, so there is one implementation of every block.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from foundation.files import write_atomically, write_json
from search_spaces.checkpoints.byte_level import BPE, byte_letters
from search_spaces.checkpoints.folder import CONFIG, ONE_FILE
from search_spaces.checkpoints.source_copy import not_of_this_project, source_of
from search_spaces.checkpoints.writing import SPECIAL
from search_spaces.language.serialization import to_plain
from search_spaces.network.decoder import Decoder
from search_spaces.network.model import Model
from search_spaces.tensor_files import write_tensors

NAME = "nas"
"""The `model_type` of such a configuration."""

CLASS = "search_spaces.checkpoints.modeling_nas"
README = "README.md"

CARD = """\
---
library_name: transformers
tags: [custom_code]
---
# {title}

    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained("FOLDER", trust_remote_code=True)
    tokenizer = AutoTokenizer.from_pretrained("FOLDER", trust_remote_code=True)
    tokens = tokenizer("Once upon", return_tensors="pt").input_ids
    print(tokenizer.decode(model.generate(tokens, max_new_tokens=64)[0]))

It needs PyTorch 2.11, transformers 5.17, safetensors and numpy, or later ones.

```
{architecture}
```

`trust_remote_code=True` runs the Python files of this folder with your rights. Read them, or trust whoever
gave you the folder, before you set it. The files were copied from nas, a library for neural architecture
search, when the network was exported; only their imports were rewritten.

Sequences of a batch are of one length: padding cannot be masked. A recurrent state cannot be taken back, so
assisted generation is refused; beam search works.

The Python files are under the Apache License 2.0 (https://www.apache.org/licenses/LICENSE-2.0). The weights
are under the license of whoever trained them.
"""


def no_self_contained_form(spec: Decoder) -> str:
    """Why a network has no such folder; empty where it has."""
    foreign = not_of_this_project(spec)
    return foreign and f"{foreign} is a part of your own, whose source goes along with --to nas only"


@torch.no_grad()
def write_self_contained(
    model: Model, folder: Path, *, title: str = "A network", tokens: Mapping[str, Any] | None = None
) -> None:
    """Write a model in float32; `tokens` are the numbers of special tokens by key (`SPECIAL`).

    Raises:
        SettingError: the source is not here as files.
        FileError: it cannot be written.
    """
    spec = model.spec
    for name, text in source_of(CLASS, spec).items():
        write_atomically(folder / name, text)
    config = {
        "model_type": NAME,
        "architectures": ["NasForCausalLM"],
        "auto_map": {
            "AutoConfig": "modeling_nas.NasConfig",
            "AutoModelForCausalLM": "modeling_nas.NasForCausalLM",
        },
        "network": to_plain(spec),
        "vocab_size": spec.vocab,
        "hidden_size": spec.d_model,
        "num_hidden_layers": len(spec.layers),
        "tie_word_embeddings": False,  # a tied head is the same parameter already
        "dtype": "float32",
        **{name: (tokens or {}).get(name) for name in SPECIAL},
    }
    write_json(folder / CONFIG, config, indent=2)
    # weights that layers share are there under the name of each: transformers fills names, not parameters
    state = model.state_dict()
    tensors = {f"network.{name}": value.detach().cpu().float().clone() for name, value in state.items()}
    write_tensors(folder / ONE_FILE, tensors, {"format": "pt"})
    write_atomically(folder / README, CARD.format(title=title, architecture=spec))


def byte_tokenizer() -> bytes:
    """The content of a tokenizer.json whose tokens are bytes: text and back, without loss."""
    vocab = dict(sorted(byte_letters().items(), key=lambda item: item[1]))
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    plain: dict[str, Any] = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": level,
        "post_processor": None,
        "decoder": level,
        "model": {**BPE, "vocab": vocab, "merges": []},
    }
    return json.dumps(plain).encode()
