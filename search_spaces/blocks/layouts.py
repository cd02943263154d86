"""Layouts of parameters that several blocks share (`Block.layout`).

Letters: D d_model, H heads, G groups of heads that share keys, K channels of keys, V channels of values,
N channels of the state, E experts, F hidden channels.
"""

from __future__ import annotations

from search_spaces.parameter_axes import Layout

HEADS = {"wq": "H N D", "wk": "H N D", "wv": "H V D", "wo": "D H V"}
"""Queries, keys, values and output of linear attention."""

GROUPED_HEADS = {"wq": "GH K D", "wk": "G K D", "wv": "G V D", "wo": "D GH V"}
"""Queries, keys, values and output of attention whose heads share keys and values in groups."""

DELTA_RULE = {"wqk": ". G N D", "wv": "GH V D", "wb": "GH D", "conv_qk": ". G N .", "conv_v": "GH V ."}
DELTA_RULE |= {"norm": "V", "wo": "D GH V"}
"""The delta rule behind short convolutions, whose heads share queries and keys in groups."""

EXPERTS = {"router": "E D", "gated": "E F D", "up": "E F D", "down": "E D F"}
"""A router and its SwiGLU experts."""

ROUTED_EXPERTS = Layout(EXPERTS, "DEF", {"F": "E"})
"""Experts may be sorted, and the hidden channels of each expert."""
