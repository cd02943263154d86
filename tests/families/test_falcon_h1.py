"""Multipliers of Falcon-H1, which become part of the weights."""

from __future__ import annotations

from typing import Any

import pytest

from foundation.errors import SettingError
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.mamba2 import Mamba2
from search_spaces.blocks.parallel import Parallel
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.checkpoints.writing import family_with
from search_spaces.families.base import families, spec_of
from search_spaces.families.config import Config
from search_spaces.network.decoder import Decoder, Layer

SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "vocab_size": 61,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "mamba_n_heads": 4,
}
FAMILY = families["falcon_h1"]


def factors(**values: Any) -> dict[str, tuple[float, ...]]:
    return dict(FAMILY.factors(FAMILY.modern(Config({**SMALL, **values}))))


def test_every_matrix_has_the_multipliers_of_its_path() -> None:
    assert all(set(own) == {1.0} for own in factors().values())
    found = factors(ssm_in_multiplier=2, ssm_multipliers=[1, 3, 5, 7, 9], key_multiplier=0.5)
    assert found["0_Mamba2.wx"] == (6,)
    assert found["0_Mamba2.wbc"] == found["0_Mamba2.wbc_groups"] == (10, 14)
    assert found["1_Attention.wk"] == (0.5,)
    assert found["1_Attention.wq"] == (1,)


@pytest.mark.parametrize(
    ("values", "rule"),
    [
        ({"ssm_multipliers": [1, 2]}, "ssm_multipliers must be 5 numbers"),
        ({"mlp_multipliers": ["1", 2]}, "mlp_multipliers must be 2 numbers"),
        ({"key_multiplier": True}, "key_multiplier must be a number"),
    ],
)
def test_a_multiplier_must_be_a_number(values: dict[str, Any], rule: str) -> None:
    with pytest.raises(SettingError, match=rule):
        factors(**values)


@pytest.mark.parametrize("name", ["mamba_rms_norm", "mamba_norm_before_gate"])
def test_what_says_where_the_norm_is_must_be_true_or_false(name: str) -> None:
    with pytest.raises(SettingError, match=f"{name} must be true or false, got 1"):
        spec_of(FAMILY, Config({**SMALL, name: 1}))


def test_a_network_of_ours_goes_out_where_its_mixers_are_of_these_kinds() -> None:
    mamba, attention = Mamba2(num_heads=4, norm="none"), Attention(num_heads=2, num_kv_heads=1)
    both = Decoder(d_model=32, layers=(hybrid(mamba, attention),))
    assert family_with(both, "falcon_h1")[1]["mamba_d_ssm"] == 128
    with pytest.raises(SettingError, match=r"no layer like layers\.0"):
        family_with(Decoder(d_model=32, layers=(hybrid(attention, mamba),)), "falcon_h1")
    other = Decoder(
        d_model=32, layers=(hybrid(Mamba2(num_heads=4, norm_epsilon=1e-6, dt_least=0.1), attention),)
    )
    with pytest.raises(SettingError, match="no such network"):
        family_with(other, "falcon_h1")


def hybrid(*mixers: Any) -> Layer:
    return Layer(sequence_mixer=Parallel(mixers=mixers), channel_mixer=SwiGLU(expansion=2))
