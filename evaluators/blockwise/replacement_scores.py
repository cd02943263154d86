"""What can be replaced in a network, by how much that moves its predictions, and the file that keeps it."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from torch import Tensor

from foundation.errors import DataError, EvaluationFailed, FileError, NoFile, SpaceError, UnknownName
from foundation.fields import Field
from foundation.files import read_json, write_json
from search_spaces.language.serialization import from_plain, parts, to_plain
from search_spaces.network.decoder import weights_site
from search_spaces.network.sublayers import Sublayer

FORMAT, VERSION = "nas replacement scores", 2

SCORES_BYTES = 2**26
"""The largest file of scores that is read."""

parts.add(Sublayer)


@parts.add
@dataclass(frozen=True)
class Width:
    """The whole network at another width."""

    d_model: int

    def __str__(self) -> str:
        return f"d_model {self.d_model}"


@parts.add
@dataclass(frozen=True)
class LayerRemoved:
    """The network without its layer at `index`."""

    index: int
    d_model: int

    @property
    def path(self) -> str:
        """The path of the layer."""
        return weights_site(None, self.index)

    def __str__(self) -> str:
        return f"{self.path} left out at d_model {self.d_model}"


Replacement: TypeAlias = "Sublayer | Width | LayerRemoved"
"""One change of a parent: another sublayer in place of its own, another width, or one layer fewer."""


@dataclass(frozen=True)
class Moved:
    """By how much predictions move, in nats per judged token: a mean over windows, and its standard error."""

    kl: float
    error: float

    @classmethod
    def of(cls, samples: Tensor) -> Moved:
        """From one value per window [W].

        Raises:
            EvaluationFailed: a value is not finite.
        """
        values = samples.double().tolist()
        if not all(map(math.isfinite, values)):
            raise EvaluationFailed(f"a replacement's divergence is not finite on {len(values)} windows")
        return cls(statistics.fmean(values), statistics.stdev(values) / math.sqrt(len(values)))


def canonical(replacement: Replacement) -> Replacement:
    """The same with the bits that have no effect at 16: a block without a state has no bits of it."""
    if not isinstance(replacement, Sublayer) or replacement.state_bits == replacement.bits.state:
        return replacement
    return replace(replacement, bits=replace(replacement.bits, state=replacement.state_bits))


def save_scores(path: Path, origin: Mapping[str, Any], scores: Mapping[Replacement, Moved]) -> None:
    """Write scores as JSON, all of them or nothing."""
    entries = [
        {"replacement": to_plain(replacement), "kl": moved.kl, "error": moved.error}
        for replacement, moved in scores.items()
    ]
    about = {"format": FORMAT, "version": VERSION, "unit": "nats per judged token", "origin": origin}
    write_json(path, {**about, "scores": entries})


def load_scores(path: Path, origin: Mapping[str, Any]) -> dict[Replacement, Moved]:
    """The scores kept at `path`; none where there is no file, or one of other weights or another parent.

    Raises:
        DataError: the file is not what `save_scores` writes.
    """
    try:
        kept = Field(read_json(path, at_most=SCORES_BYTES))
        if (kept["format"].plain, kept["version"].plain) != (FORMAT, VERSION):
            raise DataError(f"{path}: expected {FORMAT} of version {VERSION}; remove it")
        if kept["origin"].plain != json.loads(json.dumps(origin)):
            return {}
        return {
            from_plain(entry["replacement"].plain): Moved(
                entry["kl"].number(), entry["error"].number(least=0)
            )
            for entry in kept["scores"].entries()
        }
    except NoFile:
        return {}
    except (FileError, SpaceError, UnknownName) as error:
        raise DataError(f"{path}: no replacement scores: {error}; remove it") from error


def _moved(entry: Field) -> Moved:
    return Moved(entry["kl"].number(), entry["error"].number(least=0))
