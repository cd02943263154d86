"""What the exact engine claims: that the sums of block scores order networks as their real scores do.

On a study's record are the sums of some random networks beside their real divergences and their scores; the
sum of any other network follows from the block scores that the engine kept in its folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evaluators.blockwise.replacement_scores import SCORES_BYTES, load_scores
from foundation.errors import NoFile, SpaceError
from foundation.fields import Field
from foundation.files import read_json
from nas.engines.exact.tables import ScoredSpace, scored_space
from nas.study.plan_objectives import quality_name
from nas.study.study import Study
from nas.study.trial import Trial
from nas.validation.agreement import Pair
from nas.validation.claims import Claims, agreements_of
from search_spaces.language.serialization import from_plain

SCORES = "scores.json"
"""The file of block scores in the engine's folder."""


def claims(study: Study, fact: Mapping[str, Any], truths: Sequence[Trial], folder: Path) -> Claims:
    """The claims behind the engine's fact, against networks that were trained from scratch (`truths`)."""
    sides: list[tuple[str, Sequence[Pair]]] = []
    if truths:
        sums, quality = _sums(study, truths, folder), quality_name(study.plan)
        pairs = [(sums[t.digest], t.values[quality].value, t.digest) for t in truths if t.digest in sums]
        sides.append((f"training from scratch for {truths[0].fidelity.steps} steps", pairs))
    networks = [(*entry, str(i)) for i, entry in enumerate(fact.get("networks", ()))]
    sides += [
        ("scores from the shared weights", [(total, score, name) for total, _, score, name in networks]),
        ("real divergences from its parent", [(total, real, name) for total, real, _, name in networks]),
    ]
    warning = fact.get("warning", "").removeprefix("engine exact: ")
    return Claims(
        engine="exact",
        by="sums of block scores",
        agreements=agreements_of(sides),
        remarks=(warning,) if warning else (),
    )


def _sums(study: Study, trials: Sequence[Trial], folder: Path) -> dict[str, float]:
    """By digest, the sums of block scores of networks of which every part was scored."""
    scored = _scored_network(study, folder)
    if scored is None:
        return {}
    sums = {}
    for trial in trials:
        try:
            sums[trial.digest] = scored.predicted(study.spec(trial))
        except SpaceError:
            continue  # a part that was not scored: a shared layer, a router, an exit
    return sums


def _scored_network(study: Study, folder: Path) -> ScoredSpace | None:
    """The scores that the engine kept, with their parent; None where they are gone."""
    path = folder / SCORES
    try:
        origin = Field(read_json(path, at_most=SCORES_BYTES))["origin"]
    except NoFile:
        return None
    parent: Any = from_plain(origin["parent"].plain)
    return scored_space(study.space, parent, load_scores(path, origin.plain), {})
