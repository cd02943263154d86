"""Replacement scores: how far a network's predictions move when one half of one layer is another.

    score = KL(parent || parent with this half) - KL(parent || parent),       in nats per judged token

One score for every half that may stand at a place (a block at a size, at bits), by one pass from that place
on: what the parent's halves read was kept. At another width the network that is changed is the parent at that
width; its own divergence from the parent is the score of the width, and the halves there are scored by what
they add to it. A layer that is left out, and a half without a block, are scored like any other.

The sum of the scores over a network predicts its divergence as far as replacements do not see each other;
whether they do must be asked of whole networks (`Replacements.divergence`). Scores by divergence from the
parent's outputs choose better than scores by loss (Bercovich et al. 2024, arXiv:2411.19146, Puzzle).

Shapes: W windows, T tokens, D d_model, V vocab.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from evaluators.blockwise.alignment import digest_of, parents_of, recorded
from evaluators.blockwise.sublayers import BorrowedHalf, Half, halves_in, halves_of
from evaluators.scoring.windows import SCORED_AT_ONCE, SEGMENT, state_segment
from evaluators.tasks.base import IGNORED, Task
from evaluators.training.fit import SAVE_SECONDS
from foundation.errors import DataError, EvaluationFailed, SpaceError
from search_spaces.language.serialization import from_plain, to_plain
from search_spaces.network.decoder import Decoder
from search_spaces.quantization.bits import WeightFormat, is_matrix
from search_spaces.quantization.rounding import round_to_bits
from search_spaces.supernet import Supernet

FORMAT, VERSION = "nas replacement scores", 1

LAYER = "layers.{}"
"""The site of a whole layer, which is scored without a block: left out."""


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


class Replacements:
    """A parent read from a supernet, and what is known of its halves on the first `windows` of a task.

    Raises:
        SpaceError: the parent has layers that share weights, routers or exits: their halves do not add up.
        IllegalArchitecture: the parent is not in the space.
    """

    def __init__(
        self, supernet: Supernet, parent: Decoder, task: Task, *, windows: int | None = None
    ) -> None:
        supernet.space.genotype_of(parent)
        for i, layer in enumerate(parent.layers):
            if layer.shared is not None or layer.routing is not None or layer.exit is not None:
                raise SpaceError(
                    f"layers.{i} of the parent shares weights, has a router or an exit: what its halves do"
                    " does not add up; choose a parent without"
                )
        self.supernet, self.parent, self.task, self.windows = supernet, parent, task, windows
        self.parents = parents_of(supernet, parent)
        tokens, targets = task.validation()
        self.tokens, self.targets = (part[:windows].to(supernet.device) for part in (tokens, targets))
        self.wanted = self._logits_of(parent)
        self._trunks: dict[int, _Trunk] = {}

    @property
    def origin(self) -> dict[str, Any]:
        """What the scores depend on, as plain values."""
        return {
            "weights": digest_of(self.supernet),
            "parent": to_plain(self.parent),
            "task": self.task.digest,
            "windows": len(self.tokens),
        }

    def wanted_halves(self) -> Iterator[Half]:
        """Everything that is to be scored: widths, halves, and layers that may be left out."""
        for d_model in self.parents:
            yield Half("", None, d_model)
        depth = len(self.parent.layers)
        for half in halves_in(self.supernet.space):
            head, _, rest = half.site.partition(".")
            index = rest.partition(".")[0]
            if head == "layers" and int(index) < depth and half.d_model in self.parents:
                yield canonical(half)
        for layer in range(depth):
            for d_model in self.parents:
                yield Half(LAYER.format(layer), None, d_model)

    def score(self, half: Half) -> Moved:
        """How far the parent moves with this half in place of its own.

        Raises:
            EvaluationFailed: the divergence is not finite.
            SpaceError: the parent has no such place.
        """
        trunk = self._trunk(half.d_model)
        if not half.site:
            return Moved.of(trunk.base)
        return Moved.of(self._divergence(trunk.replaced(half)) - trunk.base)

    def measure(
        self,
        path: Path | None = None,
        *,
        halves: Iterable[Half] | None = None,
        on_score: Callable[[int, int], None] | None = None,
    ) -> dict[Half, Moved]:
        """The scores of these halves, or of all; those kept at `path` are not measured again.

        `on_score` hears how many are known, and how many there will be.
        """
        wanted = list(dict.fromkeys(self.wanted_halves() if halves is None else halves))
        origin = self.origin
        known = {} if path is None else load_scores(path, origin)
        saved = monotonic()
        missing = [half for half in wanted if half not in known]
        for count, half in enumerate(missing, 1):
            known[half] = self.score(half)
            if path is not None and (count == len(missing) or monotonic() - saved > SAVE_SECONDS):
                save_scores(path, origin, known)
                saved = monotonic()
            if on_score is not None:
                on_score(len(wanted) - len(missing) + count, len(wanted))
        return {half: known[half] for half in wanted}

    def divergence(self, spec: Decoder) -> Moved:
        """The real divergence of a whole network, read from the same weights, from the parent."""
        return Moved.of(self._divergence(self._logits_of(spec)))

    @torch.no_grad()
    def _logits_of(self, spec: Decoder) -> Tensor:
        subnet = self.supernet.subnet(spec)
        weights, segment = subnet.weights(), state_segment(spec)
        parts = self.tokens.split(SCORED_AT_ONCE)
        return torch.cat([subnet(part, weights, segment=segment) for part in parts])

    @torch.no_grad()
    def _divergence(self, logits: Tensor) -> Tensor:
        """KL(parent || these) by window [W], over the judged tokens."""
        judged = self.targets != IGNORED
        each = F.kl_div(
            logits.float().log_softmax(-1),
            self.wanted.float().log_softmax(-1),
            reduction="none",
            log_target=True,
        ).sum(-1)
        return (each * judged).sum(1) / judged.sum(1)

    def _trunk(self, d_model: int) -> _Trunk:
        if d_model not in self.parents:
            raise SpaceError(f"the parent cannot be {d_model} wide; its widths are {sorted(self.parents)}")
        if d_model not in self._trunks:
            trunk = _Trunk(self, self.parents[d_model])
            trunk.base = self._divergence(self._logits_of(trunk.spec))
            self._trunks[d_model] = trunk
        return self._trunks[d_model]


class _Trunk:
    """The parent at one width: what its halves read, and its later halves to run on from there."""

    base: Tensor

    def __init__(self, owner: Replacements, spec: Decoder) -> None:
        self.supernet, self.spec = owner.supernet, spec
        self.halves = [half for _, _, half in halves_of(spec)]
        self.read = [
            BorrowedHalf(owner.supernet, half) if half.block is not None else None for half in self.halves
        ]
        with torch.no_grad():
            self.weights = [read.weights() if read is not None else {} for read in self.read]
            shared = owner.supernet.weights
            embedding = shared["embedding"][: spec.vocab, : spec.d_model]
            stored = WeightFormat() if is_matrix(tuple(embedding.shape)) else None
            self.embedding = embedding if stored is None else round_to_bits(embedding, stored)
            self.norm = shared["norm"][: spec.d_model]
        self.inputs = self._record(owner.tokens)

    @torch.no_grad()
    def replaced(self, half: Half) -> Tensor:
        """Logits [W, T, V] with this half in place of the one at its site, or without the layer there."""
        first, after = self._span(half)
        parts = []
        new = BorrowedHalf(self.supernet, half) if half.block is not None else None
        weights = new.weights() if new is not None else {}
        segment = SEGMENT if half.bits.state < 16 and new is not None else None
        for x in self.inputs[first].split(SCORED_AT_ONCE):
            x = x if new is None else new(x, weights, segment=segment).y
            parts.append(self._rest(x, after))
        return torch.cat(parts)

    def _rest(self, x: Tensor, first: int) -> Tensor:
        for read, half, weights in list(zip(self.read, self.halves, self.weights, strict=True))[first:]:
            if read is not None:
                segment = SEGMENT if half.bits.state < 16 else None
                x = read(x, weights, segment=segment).y
        return F.linear(F.rms_norm(x, self.norm.shape, self.norm, 1e-6), self.embedding)

    def _span(self, half: Half) -> tuple[int, int]:
        """The first half that is replaced, and the first that is not any more."""
        sites = [known.site for known in self.halves]
        if half.site in sites:
            first = sites.index(half.site)
            return first, first + 1
        inside = [i for i, site in enumerate(sites) if site.startswith(f"{half.site}.")]
        if half.block is not None or not inside:
            raise SpaceError(f"the parent has no {half.site}")
        return inside[0], inside[-1] + 1

    def _record(self, tokens: Tensor) -> list[Tensor]:
        """What every half reads [W, T, D]; a half without a block reads what the next one does."""
        parts = [recorded(self.supernet, self.spec, some) for some in tokens.split(SCORED_AT_ONCE)]
        inputs: list[Tensor] = []
        for i, half in enumerate(self.halves):
            if half.block is not None:
                inputs.append(torch.cat([part[half.site][0] for part in parts]))
            else:  # a channel mixer that is not there: x as the sequence mixer before it leaves it
                site = self.halves[i - 1].site
                inputs.append(torch.cat([part[site][0] + part[site][1] for part in parts]))
        return inputs


def canonical(half: Half) -> Half:
    """The same half with the bits that do not matter at 16: a block without a state has no bits of it."""
    if half.block is None:
        return Half(half.site, None, half.d_model)
    if not half.block.state(half.d_model) and half.bits.state != 16:
        return replace(half, bits=replace(half.bits, state=16))
    return half


def save_scores(path: Path, origin: Mapping[str, Any], scores: Mapping[Half, Moved]) -> None:
    """Write scores as JSON, all of them or nothing."""
    plain = {
        "format": FORMAT,
        "version": VERSION,
        "unit": "nats per judged token",
        "origin": origin,
        "scores": [
            {
                "site": half.site,
                "d_model": half.d_model,
                "block": None if half.block is None else to_plain(half.block),
                "bits": to_plain(half.bits),
                "kl": moved.kl,
                "error": moved.error,
            }
            for half, moved in scores.items()
        ],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f"{path.name}.new")
    new.write_text(json.dumps(plain, indent=1))
    new.replace(path)


def load_scores(path: Path, origin: Mapping[str, Any]) -> dict[Half, Moved]:
    """The scores kept at `path`; none where there is no file, or one of other weights or another parent.

    Raises:
        DataError: the file is not what `save_scores` writes.
    """
    try:
        plain = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise DataError(f"{path}: not JSON: {error}; remove it") from error
    try:
        if (plain["format"], plain["version"]) != (FORMAT, VERSION):
            raise DataError(f"{path}: expected {FORMAT} of version {VERSION}; remove it")
        if plain["origin"] != json.loads(json.dumps(origin)):
            return {}
        return {_half(entry): Moved(entry["kl"], entry["error"]) for entry in plain["scores"]}
    except (KeyError, TypeError) as error:
        raise DataError(
            f"{path}: no replacement scores: {type(error).__name__}: {error}; remove it"
        ) from error


def _half(entry: Mapping[str, Any]) -> Half:
    block = entry["block"]
    bits: Any = from_plain(entry["bits"])
    return Half(entry["site"], None if block is None else from_plain(block), entry["d_model"], bits)
