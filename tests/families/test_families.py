"""Every family: a model of transformers becomes ours with equal logits, and goes back as it was."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from foundation.errors import SettingError
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.checkpoints.against_transformers import compared
from search_spaces.checkpoints.reading import filled, open_checkpoint, plan_of
from search_spaces.checkpoints.writing import family_with, write_folder
from search_spaces.families.base import families
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.ends import Head
from search_spaces.network.model import Model, build
from tests.docs.pages import ROOT
from tests.families.tiny import MODELS, made

pytest.importorskip("transformers")

TOLERANCE = 1e-5
"""Of the largest logit, in float32."""


def read(folder: Path) -> Model:
    with open_checkpoint(folder) as checkpoint:
        return filled(plan_of(checkpoint), checkpoint)


def test_every_family_is_tested() -> None:
    assert {family for family, _ in MODELS.values()} == set(families)


def test_the_page_lists_every_family() -> None:
    page = (ROOT / "docs/how-to/import_a_model.md").read_text()
    assert {name for name in families if f"| `{name}`" in page} == set(families)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_computes_the_same_here_and_goes_back(name: str, tmp_path: Path) -> None:
    source = made(name, tmp_path / "theirs")
    with open_checkpoint(source) as checkpoint:
        plan = plan_of(checkpoint)
        model = filled(plan, checkpoint)
    assert plan.family.name == MODELS[name][0]
    assert plan.unread == []
    assert compared(model, source).relative < TOLERANCE

    family = write_folder(model, tmp_path / "back", family=plan.family.name)
    assert family is plan.family
    assert compared(model, tmp_path / "back").relative < TOLERANCE
    again = read(tmp_path / "back")
    assert again.spec == model.spec
    for (path, mine), other in zip(model.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(other, mine), path


@pytest.mark.parametrize("tied", [True, False])
def test_a_scale_of_embeddings_becomes_part_of_the_weights(tied: bool, tmp_path: Path) -> None:
    spec = Decoder(vocab=61, d_model=16, layers=(attention_layer(),) * 2, head=Head(tied=tied))
    model = build(spec, seed=2).eval()
    assert write_folder(model, tmp_path, family="llama").name == "llama"
    assert compared(model, tmp_path).relative < TOLERANCE


def attention_layer(**values: object) -> Layer:
    mixer = Attention(num_heads=2, num_kv_heads=1, head_dim=8, **values)  # type: ignore[arg-type]
    return Layer(sequence_mixer=mixer, channel_mixer=SwiGLU(expansion=2))


def test_of_several_families_the_plainest_is_taken() -> None:
    spec = Decoder(vocab=9, d_model=16, layers=(attention_layer(),) * 2)
    assert family_with(spec)[0].name == "mistral"
    assert family_with(spec, "Llama")[0].name == "llama"


def test_what_no_family_has_is_said() -> None:
    turned = Decoder(vocab=9, d_model=16, layers=(attention_layer(window=8, global_tokens=2),))
    with pytest.raises(SettingError, match=r"no class of transformers .* layers\.0\.sequence_mixer is"):
        family_with(turned)
    unlike = Decoder(vocab=9, d_model=16, layers=(attention_layer(), attention_layer(rotary_base=5.0)))
    with pytest.raises(
        SettingError, match=r"layers\.1\.sequence_mixer: rope_parameters\.rope_theta would be 5"
    ):
        family_with(unlike, "llama")
    with pytest.raises(SettingError, match="did you mean 'llama'"):
        family_with(turned, "lama")
