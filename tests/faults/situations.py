"""Situations that faults are put into: made once, and copied or changed by the cases that need them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from copy import deepcopy
from functools import lru_cache
from typing import Any

from hw_profiles.fingerprint import fingerprint
from hw_profiles.latency.correction import Accuracy, Correction
from hw_profiles.latency.parts import parts_in
from hw_profiles.latency.records import MeasuredNetwork
from hw_profiles.latency.table import LatencyTable
from hw_profiles.timing.timings import READINGS, Latency
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.choices import one_of, repeat
from search_spaces.language.space import Space
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.scenario import Scenario

TINY_SPACE = """
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.choices import one_of, repeat
from search_spaces.language.space import Space
from search_spaces.network.decoder import Decoder, Layer

layer = Layer(sequence_mixer=Attention(head_dim=8), channel_mixer=SwiGLU(expansion=one_of(1, 2, 4)))
space = Space(Decoder(vocab=256, d_model=16, layers=repeat(layer, (1, 2))), name="tiny")
"""
"""A space file; `tiny_space` is the same space."""


def tiny_space() -> Space:
    """Six networks of one width."""
    layer = Layer(sequence_mixer=Attention(head_dim=8), channel_mixer=SwiGLU(expansion=one_of(1, 2, 4)))
    return Space(Decoder(vocab=256, d_model=16, layers=repeat(layer, (1, 2))), name="tiny")


@lru_cache
def _tiny_table() -> Any:
    scenario = Scenario()
    accuracy = Accuracy(1, mape=0.05, rms=0.06, bias=0.01, tau=0.9, tau_low=0.5, tau_high=1.0, reach=2.0)
    layer = Layer(sequence_mixer=Attention(head_dim=8), channel_mixer=SwiGLU(expansion=2))
    networks = tuple(
        MeasuredNetwork(
            Decoder(vocab=256, d_model=16, layers=(layer,) * depth),
            depth == 2,
            dict.fromkeys(READINGS, Latency((3.0 + depth, 3.1 + depth, 3.2 + depth))),
        )
        for depth in (1, 2)
    )
    table = LatencyTable(
        space_name="tiny",
        space_digest=tiny_space().digest,
        scenario=scenario,
        fingerprint=fingerprint(scenario),
        entries={
            part: dict.fromkeys(READINGS, Latency((float(i), i + 0.1, i + 0.2), (i + 0.3,)))
            for i, part in enumerate(parts_in(tiny_space()), start=1)
        },
        networks=networks,
        corrections=dict.fromkeys(READINGS, Correction(1.0, 0.5, 0.1, {"Attention": 1.1}, {"16": 0.9})),
        accuracies=dict.fromkeys(READINGS, accuracy),
    )
    return json.loads(json.dumps(table.to_plain()))


def tiny_table(changes: Sequence[tuple[str, Any]] = ()) -> Any:
    """A whole latency table of `tiny_space` as plain values, with other values at some dotted places."""
    return changed(_tiny_table(), changes)


def changed(plain: Any, changes: Sequence[tuple[str, Any]]) -> Any:
    """Plain values with others at some places, `entries.0.decode_ms`; None there removes what is there."""
    plain = deepcopy(plain)
    for place, value in changes:
        *way, last = (int(name) if name.isdigit() else name for name in place.split("."))
        inside = plain
        for name in way:
            inside = inside[name]
        if value is None:
            del inside[last]
        else:
            inside[last] = value
    return plain
