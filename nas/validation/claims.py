"""What an engine itself predicted of networks, against what came out: read off a study's record.

The exact engine predicts by sums of block scores. On its record are the sums of some random networks beside
their real divergences and their scores; the sum of any other network follows from the scores that it kept.
Differentiable search ranks no networks: it claims to meet targets on a cost, and reports findings.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evaluators.blockwise.replacement import load_scores
from foundation.errors import SettingError, SpaceError
from nas.engines.exact.tables import Network, network
from nas.study.study import Study
from nas.study.trial import Trial
from nas.validation.agreement import Agreement, agreement
from search_spaces.language.serialization import from_plain

WITHIN = 0.05
"""The relative distance within which a target is met."""

Outcome = Mapping[str, Any]


@dataclass(frozen=True)
class Claims:
    """By what an engine chose (`by`), how that agrees with what came out, and what else it said."""

    engine: str
    by: str
    agreements: tuple[tuple[str, Agreement], ...] = ()
    told: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values; of each agreement the pairs are left out."""
        agreements = [
            {
                "against": against,
                "tau": one.tau,
                "interval": list(one.interval),
                "networks": len(one.pairs),
            }
            for against, one in self.agreements
        ]
        return {"engine": self.engine, "by": self.by, "agreements": agreements, "told": list(self.told)}


def claims_of(study: Study, truths: Sequence[Trial] = (), quality: str = "") -> Claims | None:
    """The claims of the study's engine; None where it makes none.

    `truths` are networks that were trained from scratch, with their `quality`.
    """
    if study.plan.engine == "exact" and "exact" in study.facts:
        return _exact(study, study.facts["exact"], truths, quality)
    if study.plan.engine == "darts" and "darts" in study.facts:
        return _darts(study.facts["darts"])
    return None


def _exact(study: Study, fact: Mapping[str, Any], truths: Sequence[Trial], quality: str) -> Claims:
    found: list[tuple[str, Agreement]] = []
    sums = _sums(study, truths)
    if truths:
        steps = truths[0].fidelity.steps
        pairs = [(sums[t.digest], t.values[quality].value, t.digest) for t in truths if t.digest in sums]
        found += _agreed(f"training from scratch for {steps} steps", pairs)
    networks = [(*entry, str(i)) for i, entry in enumerate(fact.get("networks", ()))]
    found += _agreed("scores from the shared weights", [(p, score, n) for p, _, score, n in networks])
    found += _agreed("real divergences from its parent", [(p, real, n) for p, real, _, n in networks])
    warning = fact.get("warning", "").removeprefix("engine exact: ")
    return Claims("exact", "sums of block scores", tuple(found), (warning,) if warning else ())


def _agreed(against: str, pairs: Sequence[tuple[float, float, str]]) -> list[tuple[str, Agreement]]:
    """An agreement, if there are enough networks, and they differ."""
    try:
        return [(against, agreement(pairs))]
    except SettingError:
        return []


def _sums(study: Study, trials: Sequence[Trial]) -> dict[str, float]:
    """By digest, the sums of block scores of networks of which every part was scored."""
    known = _scored_network(study) if trials else None
    if known is None:
        return {}
    found = {}
    for trial in trials:
        try:
            found[trial.digest] = known.predicted(study.spec(trial))
        except SpaceError:
            continue  # a part that was not scored: a shared layer, a router, an exit
    return found


def _scored_network(study: Study) -> Network | None:
    """The scores that the engine kept, with their parent; None where they are gone."""
    path = study.folder / "exact" / "scores.json"
    if not path.exists():
        return None
    origin = json.loads(path.read_text())["origin"]
    parent: Any = from_plain(origin["parent"])
    return network(study.space, parent, load_scores(path, origin), {})


def _darts(fact: Mapping[str, Any]) -> Claims:
    points: Sequence[Outcome] = fact.get("points", ())
    met = [_meets(point) for point in points if point.get("targets")]
    told = [f"{sum(met)} of {len(met)} targets met within {100 * WITHIN:.0f} %"] if met else []
    told += dict.fromkeys(finding["text"] for point in points for finding in point.get("findings", ()))
    by = "gradients, one network for each target, and ranks no others"
    return Claims("darts", by, (), tuple(told))


def _meets(point: Outcome) -> bool:
    costs: Mapping[str, float] = point["costs"]
    return all(abs(costs[name] / value - 1) <= WITHIN for name, value in point["targets"].items())
