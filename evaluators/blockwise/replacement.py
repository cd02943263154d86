"""Replacement scores: how far a network's predictions move when one sublayer is another.

    score = KL(parent || parent with this sublayer) - KL(parent || parent),       in nats per judged token

One score for every sublayer that may stand at a place (a block at a size, at bits), by one pass from that
place on: the inputs of the parent's sublayers are recorded. At another width the network that is changed is
the parent at that width; its own divergence from the parent is the score of the width, and the sublayers
there are scored by what they add to it. A layer that is left out, and a place without a block, are scored
like any other.

The sum of the scores over a network predicts its divergence as far as replacements do not affect each other;
whether they do must be measured on whole networks (`Replacements.divergence`). Scores by divergence from the
parent's outputs choose better than scores by loss (Bercovich et al. 2024, arXiv:2411.19146, Puzzle).

Shapes: W windows, T tokens, D d_model, V vocab.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from evaluators.blockwise.additive_part import does_not_add_up
from evaluators.blockwise.parent import parents_by_width, recorded
from evaluators.blockwise.replacement_scores import (
    LayerRemoved,
    Moved,
    Replacement,
    Width,
    canonical,
    load_scores,
    save_scores,
)
from evaluators.blockwise.shared_sublayer import BorrowedSublayer
from evaluators.scoring.windows import SEGMENT, state_segment, windows_at_once
from evaluators.supernet.weights import digest_of
from evaluators.tasks.base import IGNORED, Task
from evaluators.training.fit import SAVE_SECONDS
from foundation.errors import SpaceError
from search_spaces.language.serialization import to_plain
from search_spaces.network.decoder import PLACES, Decoder, weights_site
from search_spaces.network.sublayers import Sublayer, decoders_in, sublayers_in, sublayers_of
from search_spaces.supernet import Supernet


class Replacements:
    """A parent read from a supernet, whose parts are replaced one by one, on the first `windows` of a task.

    They are windows of the validation part; or, where `training` is a seed, random ones of the training part:
    of a parent that has not learned from that, and the validation part is kept for what is chosen.

    Raises:
        SpaceError: the parent has layers that share weights, routers or exits: their effects do not add up.
        IllegalArchitecture: the parent is not in the space.
    """

    def __init__(
        self,
        supernet: Supernet,
        parent: Decoder,
        task: Task,
        *,
        windows: int | None = None,
        training: int | None = None,
    ) -> None:
        supernet.space.genotype_of(parent)
        reason = does_not_add_up(parent)
        if reason is not None:
            raise SpaceError(f"the parent's {reason}: what its sublayers do does not add up; choose another")
        self.supernet, self.parent, self.task, self.windows = supernet, parent, task, windows
        self.parents = parents_by_width(supernet, parent)
        whole = (
            task.validation() if training is None else task.train_batch(0, training, windows or task.windows)
        )
        self.training = training
        self.tokens, self.targets = (part[:windows].to(supernet.device) for part in whole)
        self.at_once = windows_at_once(self.tokens.shape[1], parent.vocab, supernet.device)
        self.target = [part.log_softmax(-1) for part in self._logits_of(parent)]
        self._trunks: dict[int, _Trunk] = {}

    @property
    def origin(self) -> dict[str, Any]:
        """What the scores depend on, as plain values."""
        return {
            "weights": digest_of(self.supernet),
            "parent": to_plain(self.parent),
            "task": self.task.digest,
            "windows": len(self.tokens),
            **({} if self.training is None else {"training": self.training}),
        }

    def wanted(self) -> Iterator[Replacement]:
        """Everything that is to be scored: widths, sublayers, and layers that may be left out."""
        depth = len(self.parent.layers)
        sites = {weights_site(None, index) for index in range(depth)}
        yield from map(Width, self.parents)
        for sublayer in sublayers_in(self.supernet.space):
            alike = sublayer.block is None or sublayer.norm.is_like(self.parent.norm)
            if alike and sublayer.site in sites and sublayer.d_model in self.parents:
                yield canonical(sublayer)
        decoders = list(decoders_in(self.supernet.space.root))
        for index in range(depth):
            if any(True for decoder in decoders for _ in decoder.shallower(index)):
                yield from (LayerRemoved(index, d_model) for d_model in self.parents)

    def score(self, replacement: Replacement) -> Moved:
        """How far the parent moves with this replacement.

        Raises:
            EvaluationFailed: the divergence is not finite.
            SpaceError: the parent has no such place.
        """
        trunk = self._trunk(replacement.d_model)
        if isinstance(replacement, Width):
            return Moved.of(trunk.base)
        if replacement in trunk.own:  # it is the trunk itself
            return Moved(0.0, 0.0)
        return Moved.of(self._divergence(trunk.replaced(replacement)) - trunk.base)

    def measure(
        self,
        path: Path | None = None,
        *,
        replacements: Iterable[Replacement] | None = None,
        on_score: Callable[[int, int], None] | None = None,
    ) -> dict[Replacement, Moved]:
        """The scores of these replacements, or of all; those kept at `path` are not measured again.

        `on_score` gets how many are scored, and how many there will be.
        """
        wanted = list(dict.fromkeys(self.wanted() if replacements is None else replacements))
        origin = self.origin
        scores = {} if path is None else load_scores(path, origin)
        saved = monotonic()
        missing = [replacement for replacement in wanted if replacement not in scores]
        for count, replacement in enumerate(missing, 1):
            scores[replacement] = self.score(replacement)
            if path is not None and (count == len(missing) or monotonic() - saved > SAVE_SECONDS):
                save_scores(path, origin, scores)
                saved = monotonic()
            if on_score is not None:
                on_score(len(wanted) - len(missing) + count, len(wanted))
        return {replacement: scores[replacement] for replacement in wanted}

    def divergence(self, spec: Decoder) -> Moved:
        """The real divergence of a whole network, read from the same weights, from the parent."""
        return Moved.of(self._divergence(self._logits_of(spec)))

    @torch.no_grad()
    def _logits_of(self, spec: Decoder) -> Iterator[Tensor]:
        """Logits [w, T, V] of some windows at a time."""
        subnet = self.supernet.subnet(spec)
        weights, segment = subnet.weights(), state_segment(spec)
        for part in self.tokens.split(self.at_once):
            yield subnet(part, weights, segment=segment).float()

    @torch.no_grad()
    def _divergence(self, logits: Iterable[Tensor]) -> Tensor:
        """KL(parent || these) by window [W], over the judged tokens."""
        found = []
        for some, target, targets in zip(logits, self.target, self.targets.split(self.at_once), strict=True):
            judged = targets != IGNORED
            each = F.kl_div(some.log_softmax(-1), target, reduction="none", log_target=True).sum(-1)
            found.append((each * judged).sum(1) / judged.sum(1))
        return torch.cat(found)

    def _trunk(self, d_model: int) -> _Trunk:
        if d_model not in self.parents:
            raise SpaceError(f"the parent cannot be {d_model} wide; its widths are {sorted(self.parents)}")
        if d_model not in self._trunks:
            trunk = _Trunk(self, self.parents[d_model])
            trunk.base = self._divergence(self._logits_of(trunk.spec))
            self._trunks[d_model] = trunk
        return self._trunks[d_model]


class _Trunk:
    """The parent at one width: the inputs of its sublayers, and the sublayers behind each to go on with."""

    base: Tensor

    def __init__(self, owner: Replacements, spec: Decoder) -> None:
        self.supernet, self.spec, self.at_once = owner.supernet, spec, owner.at_once
        self.sublayers = list(sublayers_of(spec))
        self.paths = [sublayer.path for sublayer in self.sublayers]
        self.own = {canonical(sublayer) for sublayer in self.sublayers}
        with torch.no_grad():
            self.steps = [_Step(owner.supernet, sublayer) for sublayer in self.sublayers]
            self.weights = spec.shell.sliced(owner.supernet.weights)
        self.inputs, self.embedded = self._record(owner.tokens)

    @torch.no_grad()
    def replaced(self, replacement: Sublayer | LayerRemoved) -> Iterator[Tensor]:
        """Logits [w, T, V] with this sublayer in place of the one at its site, or without the layer."""
        first, after = self._span(replacement)
        steps = [_Step(self.supernet, replacement)] if isinstance(replacement, Sublayer) else []
        steps += self.steps[after:]
        for x, embedding in self._pieces(self.inputs[first]):
            for step in steps:
                x = step(x, embedding)
            yield self.spec.shell.logits(x, self.weights).float()

    def _pieces(self, x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """x and the embedding of the same tokens, some windows at a time."""
        return zip(x.split(self.at_once), self.embedded.split(self.at_once), strict=True)

    def _span(self, replacement: Sublayer | LayerRemoved) -> tuple[int, int]:
        """The first sublayer that is replaced, and the first that is not any more."""
        if isinstance(replacement, Sublayer) and replacement.path in self.paths:
            first = self.paths.index(replacement.path)
            return first, first + 1
        if isinstance(replacement, LayerRemoved) and replacement.index < len(self.spec.layers):
            first = len(PLACES) * replacement.index
            return first, first + len(PLACES)
        raise SpaceError(f"the parent has no {replacement.path}")

    def _record(self, tokens: Tensor) -> tuple[list[Tensor], Tensor]:
        """What every sublayer reads, and the embedding [W, T, D]; an empty one reads what the next does."""
        parts = [recorded(self.supernet, self.spec, some) for some in tokens.split(self.at_once)]
        inputs: list[Tensor] = []
        for i, sublayer in enumerate(self.sublayers):
            if sublayer.block is not None:
                inputs.append(torch.cat([part.sublayers[sublayer.path][0] for part in parts]))
            else:  # a channel mixer that is not there: x as the sequence mixer before it leaves it
                before = [part.sublayers[self.paths[i - 1]] for part in parts]
                inputs.append(torch.cat([x + added for x, added in before]))
        embedded = [part.embedding for part in parts if part.embedding is not None]
        return inputs, torch.cat(embedded) if embedded else tokens.new_empty(len(tokens))


class _Step:
    """A sublayer with its weights at hand; x goes through where there is no block."""

    def __init__(self, supernet: Supernet, sublayer: Sublayer) -> None:
        self.borrowed = BorrowedSublayer(supernet, sublayer) if sublayer.block is not None else None
        self.weights = self.borrowed.weights() if self.borrowed is not None else {}
        self.segment = SEGMENT if sublayer.bits.state < 16 else None

    def __call__(self, x: Tensor, embedding: Tensor) -> Tensor:
        """x and the embedding of its tokens [W, T, D]."""
        if self.borrowed is None:
            return x
        return self.borrowed(x, embedding, self.weights, segment=self.segment).y
