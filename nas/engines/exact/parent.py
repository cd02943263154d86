"""The parent of the exact choice: the network that all others are compared with, block by block."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

from evaluators.blockwise.additive_part import additive_part
from evaluators.supernet.evaluator import FromSupernet
from evaluators.supernet.sandwich import sandwich
from evaluators.supernet.weights import digest_of
from evaluators.trained_parent.evaluator import FromParent
from foundation.errors import FileError, SpaceError, UnknownName
from foundation.fields import Field
from foundation.files import read_json, write_json
from nas.engines.base import Setup
from search_spaces.language.serialization import from_plain, to_json
from search_spaces.network.decoder import Decoder

CANDIDATES = 12
"""Networks of the largest sizes of which the best is the parent."""


def best_parent(setup: Setup, evaluator: FromSupernet) -> Decoder:
    """The best of some networks of the largest sizes; kept in a file, because every score depends on it.

    Raises:
        SpaceError: every network has shared weights, a router or an exit.
    """
    if isinstance(evaluator, FromParent):
        return evaluator.parent_spec
    path = setup.folder / "parent.json"
    origin = {"weights": digest_of(evaluator.supernet), "seed": setup.plan.seed}
    if (kept := _kept(path, origin)) is not None:
        return kept
    additive, tried = additive_part(setup.space), dict[Decoder, None]()
    for i in range(4 * CANDIDATES):
        tried[sandwich(additive, Random(f"{setup.plan.seed}/parent/{i}"))[0]] = None
        if len(tried) == CANDIDATES:
            break
    deepest = max(len(spec.layers) for spec in tried)
    largest = [spec for spec in tried if len(spec.layers) == deepest]
    parent = min(
        largest, key=lambda spec: evaluator.score(spec, setup.plan.train_steps, setup.plan.seed).value
    )
    write_json(path, {"origin": origin, "parent": json.loads(to_json(parent))})
    return parent


def _kept(path: Path, origin: Mapping[str, Any]) -> Decoder | None:
    """The parent that was chosen before for the same weights; None where there is none, or it is damaged."""
    try:
        kept = Field(read_json(path))
        parent = from_plain(kept["parent"].plain) if kept["origin"].plain == origin else None
    except (FileError, SpaceError, UnknownName):
        return None
    return parent if isinstance(parent, Decoder) else None
