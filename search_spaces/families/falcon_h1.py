"""Falcon-H1 (Zuo et al. 2025, arXiv:2507.22448): Mamba-2 and attention side by side in every layer.

Its multipliers of projections, as in muP, are numbers by which rows of matrices are multiplied, so here they
become part of the weights, and a configuration that is written has multipliers of one. Those of embeddings
and logits are fields of ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from search_spaces.blocks.mamba2 import Mamba2
from search_spaces.families.base import Factors, Kind, families
from search_spaces.families.config import Config
from search_spaces.families.jamba import ENDS, MLP
from search_spaces.families.keys import Fixed, Free, Groups, Key, Product, Same
from search_spaces.families.llama import (
    BIASES,
    POSITIONS,
    SHELL,
    SILU,
    UNTIED,
    attention,
    like_llama,
    with_rope_parameters,
)
from search_spaces.families.mamba2 import NO_LIMIT, tensors
from search_spaces.families.side_by_side import side_by_side
from search_spaces.families.tensors import One

MULTIPLIERS: Mapping[str, float | list[float]] = {
    "ssm_in_multiplier": 1.0,
    "ssm_out_multiplier": 1.0,
    "ssm_multipliers": [1.0] * 5,
    "attention_in_multiplier": 1.0,
    "attention_out_multiplier": 1.0,
    "key_multiplier": 1.0,
    "mlp_multipliers": [1.0] * 2,
}
"""What changes nothing, by key."""

WITHOUT_EFFECT = (
    "mamba_expand",  # the width is said by itself
    "mamba_chunk_size",
    "mamba_use_mlp",
    "mlp_expansion_factor",
    "attn_layer_indices",
    "num_logits_to_keep",
)


@dataclass(frozen=True)
class GatedNorm(Key):
    """Whether there is a norm behind the state space, on which side of it the gate stands, and its groups."""

    key: str = "mamba_rms_norm"

    def read(self, config: Config) -> dict[str, Any]:
        """The fields of the norm, and the number of groups."""
        groups = Groups("mamba_n_groups").read(config)
        said = {
            name: config.get(name, usual)
            for name, usual in (("mamba_norm_before_gate", True), (self.key, False))
        }
        for name, value in said.items():
            if not isinstance(value, bool):
                raise config.wrong(name, value, "true or false")
        if not said[self.key]:
            return {"groups": groups["groups"], "norm": "none"}
        return {
            **groups,
            "norm": "ungated" if said["mamba_norm_before_gate"] else "gated",
            "norm_epsilon": config.get("rms_norm_eps"),
        }

    def write(self, fields: Mapping[str, Any], d_model: int) -> dict[str, Any]:
        """The keys; the norm has the epsilon of all others."""
        said = {"mamba_n_groups": fields["groups"], self.key: fields["norm"] != "none"}
        if fields["norm"] == "none":
            return said
        return said | {
            "mamba_norm_before_gate": fields["norm"] == "ungated",
            "rms_norm_eps": fields["norm_epsilon"],
        }


MAMBA2 = Kind(
    Mamba2,
    (
        Product("mamba_d_ssm", ("num_heads", "head_dim"), known=("mamba_d_head",)),
        Same("mamba_n_heads", "num_heads", default=128),
        Same("mamba_d_head", "head_dim"),
        Same("mamba_d_state", "state_dim", default=256),
        Same("mamba_d_conv", "conv_kernel", default=4),
        GatedNorm(),
        Fixed("mamba_conv_bias", True),
        Fixed("mamba_proj_bias", False),
        Fixed("projectors_bias", False),
        SILU,
        NO_LIMIT,
    ),
    tensors("mamba."),
)


def modern(config: Config) -> Config:
    """The width of the state space may be a multiple of the model's, and that of a head follow from it."""
    config = with_rope_parameters(config)
    config.read.update(WITHOUT_EFFECT)
    expanded = config.whole("mamba_expand", 2) * config.whole("hidden_size")
    inner = config.whole("mamba_d_ssm", 1024 if "mamba_d_ssm" not in config.values else expanded)
    width = config.get("mamba_d_head", "auto")
    if width == "auto":
        width = inner // config.whole("mamba_n_heads", 128)
    epsilon = config.get("rms_norm_eps", 1e-5)
    return config.with_values(mamba_d_ssm=inner, mamba_d_head=width, rms_norm_eps=epsilon)


def factors(config: Config) -> dict[str, Factors]:
    """The multipliers of every matrix."""

    def said(name: str) -> list[float]:
        usual = MULTIPLIERS[name]
        count = len(usual) if isinstance(usual, list) else 1
        given = config.get(name, usual)
        values = given if isinstance(given, list) else [given]
        if len(values) != count or not all(type(value) in (int, float) for value in values):
            raise config.wrong(name, given, f"{count} numbers" if count > 1 else "a number")
        return values

    z, x, b, c, dt = (said("ssm_in_multiplier")[0] * own for own in said("ssm_multipliers"))
    inside, outside, keys = (
        said(f"{name}_multiplier")[0] for name in ("attention_in", "attention_out", "key")
    )
    gated, down = said("mlp_multipliers")
    mamba, attend, mlp = "0_Mamba2", "1_Attention", "channel_mixer.mixer"
    return {
        f"{mamba}.wz": (z,),
        f"{mamba}.wx": (x,),
        f"{mamba}.wbc": (b, c),
        f"{mamba}.wbc_groups": (b, c),
        f"{mamba}.wdt": (dt,),
        f"{mamba}.wo": (said("ssm_out_multiplier")[0],),
        f"{attend}.wq": (inside,),
        f"{attend}.wk": (inside * keys,),
        f"{attend}.wv": (inside,),
        f"{attend}.bk": (keys,),
        f"{attend}.wo": (outside,),
        f"{attend}.bo": (outside,),
        f"{mlp}.gated": (gated,),
        f"{mlp}.down": (down,),
    }


families.add(
    like_llama(
        name="falcon_h1",
        architecture="FalconH1ForCausalLM",
        shell=(
            *SHELL,
            UNTIED,
            Same("embedding_multiplier", "embedding.scale", default=1.0),
            Same("lm_head_multiplier", "head.scale", default=1.0),
            *(Free(name, usual) for name, usual in MULTIPLIERS.items()),
        ),
        rules=ENDS,
        fixed={},
        layers={
            "layer": (
                side_by_side(
                    MAMBA2,
                    attention(*POSITIONS, BIASES, norms=()),
                    rules=(One("norm", "input_layernorm.weight"),),
                ),
                replace(MLP, keys=(*MLP.keys, Fixed("mlp_bias", False))),
            )
        },
        modern=modern,
        factors=factors,
    )
)
