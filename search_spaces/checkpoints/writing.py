"""A model of ours as a folder of transformers: config.json and safetensors, by the table of a family.

family, config = family_with(spec)
write_folder(model, folder)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from foundation.errors import SettingError
from foundation.files import write_atomically, write_json
from foundation.registry import known_name
from search_spaces.checkpoints.folder import CONFIG, ONE_FILE
from search_spaces.families.base import Family, config_of, families, tensors_of
from search_spaces.families.config import Config
from search_spaces.network.decoder import Decoder
from search_spaces.network.model import Model
from search_spaces.network.model_files import TOKENIZER
from search_spaces.network.shell import EMBEDDING
from search_spaces.tensor_files import write_tensors

SPECIAL = ("bos_token_id", "eos_token_id", "pad_token_id")
"""Tokens that a configuration names; where we know none, it says so, since classes have defaults."""


Chosen = tuple[Family, dict[str, Any], Decoder]
"""A family, a configuration of it, and the form of our network that it is of."""


def family_with(spec: Decoder, name: str = "") -> Chosen:
    """The family that has a network, and the configuration; of several, that with the shortest.

    Raises:
        SettingError: none has it, or not the one of this `name`.
    """
    known = [families[known_name(name, families, families.kind)]] if name else list(families.values())
    found: list[Chosen] = []
    reasons: list[str] = []
    for family in known:
        for form in forms(spec):
            try:
                found.append((family, config_of(family, form), form))
                break
            except SettingError as error:
                reason = str(error)
        else:
            reasons.append(reason)
    if not found and name:
        raise SettingError(reasons[0])
    if not found:
        # a family that has the layers says more about what is in the way
        near = [why for why in reasons if "has no layer like" not in why] or reasons
        raise SettingError(f"no class of transformers that is known here computes it; nearest: {near[0]}")
    return min(found, key=lambda each: (len(each[1]), each[0].name))


def forms(spec: Decoder) -> list[Decoder]:
    """A network, and the same with the scale of embeddings in the weights: most families have none."""
    plain = replace(spec, embedding=replace(spec.embedding, scale=1.0))
    return [plain] if spec == plain else [spec, plain]


def in_form(model: Model, form: Decoder) -> dict[str, torch.Tensor]:
    """The parameters of a model in float32, as they are in one of its `forms`."""
    ours = {name: parameter.detach().cpu().float() for name, parameter in model.named_parameters()}
    if form != model.spec:
        ours[EMBEDDING] = ours[EMBEDDING] * model.shell.scale
        for name in form.norm.held if form.head.tied else ():  # whose tied head has that factor now, too
            ours[name] = ours[name] / model.shell.scale
    return ours


@torch.no_grad()
def write_folder(
    model: Model,
    folder: Path,
    *,
    family: str = "",
    tokens: Mapping[str, Any] | None = None,
    tokenizer: bytes | None = None,
) -> Family:
    """Write a model in float32 into a folder; the family that it is of.

    `tokens` are the numbers of special tokens by key (`SPECIAL`), `tokenizer` is the content of a
    tokenizer.json.

    Raises:
        SettingError: no family has such a network.
        FileError: it cannot be written.
    """
    chosen, plain, form = family_with(model.spec, family)
    config = chosen.modern(Config(plain))
    labels = chosen.stack.read(config)
    theirs = tensors_of(chosen, labels, in_form(model, form))
    special = {name: (tokens or {}).get(name) for name in SPECIAL}
    write_json(folder / CONFIG, {**plain, **special, "dtype": "float32"}, indent=2)
    if tokenizer is not None:
        write_atomically(folder / TOKENIZER, tokenizer)
    tensors = {name: tensor.contiguous() for name, tensor in theirs.items()}
    write_tensors(folder / ONE_FILE, tensors, {"format": "pt"})
    return chosen
