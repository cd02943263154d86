"""Phi-3 (Abdin et al. 2024, arXiv:2404.14219): Llama with joined matrices; a share of channels is turned."""

from __future__ import annotations

from search_spaces.families.base import families
from search_spaces.families.keys import Same
from search_spaces.families.llama import ANY_WINDOW, POSITIONS, attention, like_llama, mlp
from search_spaces.families.tensors import Joined

INPUTS = Joined(
    ("mixer.wq", "mixer.wk", "mixer.wv"),
    "self_attn.qkv_proj.weight",
    ("H K D -> (H K) D", "G K D -> (G K) D", "G V D -> (G V) D"),
)

GATED = Joined(("mixer.gated", "mixer.up"), "mlp.gate_up_proj.weight", "F D -> F D")

KEYS = (
    *POSITIONS,
    Same("rope_parameters.partial_rotary_factor", "rotary_share", default=1.0),
    ANY_WINDOW,
)

families.add(
    like_llama(
        name="phi3",
        architecture="Phi3ForCausalLM",
        layers={"layer": (attention(*KEYS, inputs=(INPUTS,)), mlp(inputs=(GATED,)))},
    )
)
