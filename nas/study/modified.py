"""What the modifiers at the end of a study (`then`) made of its networks, and where these stand beside them.

A list of modifiers is applied to the networks of the last rung that was trained from scratch; where there is
none, to the front, with the weights that its scores are of. What comes out is measured like them, and is a
trial of a stage of its own: its memo says of which network it was made (`of`), and holds the record of each
modifier, with the figures before and after. The network itself lies in a folder of the study.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from foundation.errors import SettingError
from foundation.text import count, size
from foundation.wording import argument
from nas.modifiers.base import Modifier
from nas.modifiers.lists import line_of, modifiers_of
from nas.pareto import nondominated
from nas.study.baselines import rungs_of
from nas.study.front import Front
from nas.study.given_networks import given_name
from nas.study.plan import Plan
from nas.study.plan_objectives import is_decoder_space, quality_of, scored_names
from nas.study.study import Study
from nas.study.trial import Trial, TrialState
from search_spaces.language.space import Space

STAGE = "modified"
"""The stage of their trials, and the folder with their networks."""

OF, LIST, RECORDS = "of", "modifiers", "records"
"""In their memos: the digest of the network that was modified, the modifiers, and the record of each."""


def check_then(space: Space, plan: Plan) -> None:
    """Raise `SettingError` where the modifiers of a plan could never be applied."""
    if not plan.then:
        return
    what = argument("then", plan.then[0])
    if quality_of(plan) is None or not is_decoder_space(space):
        raise SettingError(f"{what}: nothing is trained in this study that could be modified")
    if len(scored_names(plan)) > 1 and not plan.shared_training:
        raise SettingError(
            f"{what}: each of {', '.join(scored_names(plan))} has a training of its own, so no network has"
            f" all of these scores: train for them together ({argument('shared_training', True)})"
        )
    for modifier in modifiers_of(plan.then):
        for folder in modifier.folders:
            if not Path(folder).is_dir():
                raise SettingError(f"{modifier.name}: there is no folder {folder}")


def bases_of(study: Study) -> list[Trial]:
    """The networks that modifiers are applied to, each as it was scored."""
    rungs = rungs_of(study)
    return list(rungs[-1].members) if rungs else list(study.front())


def plain_list(modifiers: Sequence[Modifier]) -> list[dict[str, Any]]:
    """A list of modifiers as plain values, as JSON gives them back."""
    plain: list[dict[str, Any]] = json.loads(json.dumps([modifier.to_plain() for modifier in modifiers]))
    return plain


def folder_of(study: Study, of: str, modifiers: Sequence[dict[str, Any]]) -> Path:
    """Where the network lies that these modifiers made of another one."""
    listed = sha256(json.dumps(modifiers, sort_keys=True).encode()).hexdigest()[:8]
    return study.folder / STAGE / f"{of}-{listed}"


def modified_trials(study: Study) -> list[Trial]:
    """All trials of networks that were modified."""
    return study.trials(STAGE)


def lines_of(trial: Trial) -> str:
    """What was done to which network: `1f0c2ab39e41, then prune,pattern=2:4, then quantize`."""
    return given_name(trial.genotype)


def record_lines(trial: Trial) -> list[str]:
    """What each modifier changed, in words; empty for other trials."""
    lines = []
    for record in trial.memo.get(RECORDS, ()):
        done, change = line_of(Modifier.from_plain(record["modifier"])), record["difference"]
        before, after = (size(record[when]["weight_bytes"]) for when in ("before", "after"))
        lines.append(f"{done}: {change['value']:+.4f} ± {change['error']:.4f}, {before} -> {after}")
    return lines


def name_of(base: Trial, modifiers: Sequence[Modifier]) -> str:
    """What is called so that these modifiers made of a network; see `lines_of`."""
    return ", then ".join([base.digest, *map(line_of, modifiers)])


def front_after(study: Study) -> Front:
    """The front of what was modified and what it was made of, by their measured values; without any, empty.

    Networks that lack an objective are left out: nothing can be said of them.
    """
    made = [trial for trial in modified_trials(study) if trial.state is TrialState.COMPLETE]
    measured, asked = study.measured(), {objective.name for objective in study.objectives}
    trials = [*bases_of(study), *made] if made else []
    known = [replace(t, values={**t.values, **measured.get(t.digest, {})}) for t in trials]
    known = [trial for trial in known if asked <= trial.values.keys()]
    points = study.points(known)
    kept = [trial for trial, keep in zip(known, nondominated(points), strict=True) if keep] if known else []
    kept.sort(key=lambda trial: study.points([trial])[0])
    return Front(
        name=study.name,
        trials=tuple(kept),
        numbers={trial.digest: trial.values for trial in kept},
        objectives=study.plan.objectives,
        dropped=len(known) - len(kept),
        table_errors=study.table_errors,
        layers=lambda trial: _told(study, trial),
        besides=tuple(score.name for score in study.scores),
    )


def then_lines(study: Study, front: Front) -> list[str]:
    """What became of the modifiers of a study, in words; empty where it has none."""
    trials = modified_trials(study)
    if not trials:
        return []
    there, failed = sum(t.stage == STAGE for t in front), [t for t in trials if t.state is TrialState.FAILED]
    lines = [
        f"{count(len(trials) - len(failed), 'network')} modified afterwards; of these and what they were made"
        f" of, {len(front)} on the front, {there} of them modified:"
    ]
    return [*(f"{lines_of(t)} failed: {t.reason}" for t in failed), *lines]


def _told(study: Study, trial: Trial) -> str:
    if trial.stage != STAGE:
        return f"as trained: {study.layers(trial)}"
    return f"{lines_of(trial)}: {study.layers(trial)}"
