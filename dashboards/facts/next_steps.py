"""What is left to do in a study, so that its pages advise only what would do something."""

from __future__ import annotations

from dataclasses import dataclass

from nas.steps.base import Context
from nas.steps.finalists import Finalists
from nas.study.export import has_weights
from nas.study.study import Study
from nas.study.trial import Trial


@dataclass(frozen=True, kw_only=True)
class NextSteps:
    """What commands could do for a study.

    `scored` says that it has a quality objective, so that something is trained. `finalists` are planned ones;
    `unfinished` says that some of them are still to be trained. `exportable` is a network of the front that
    has weights.
    """

    scored: bool = True
    finalists: int = 0
    unfinished: bool = False
    exportable: str | None = None


def next_steps(study: Study, front: list[Trial]) -> NextSteps:
    """Judged by the plan and the record of a study; `front` are the members of its front, best first."""
    plan, step = study.plan, Finalists()
    trained = bool(front) and step.done(Context(study=study))
    return NextSteps(
        scored=study.quality is not None,
        finalists=plan.finalists,
        unfinished=study.quality is not None and plan.finalists > 0 and not trained,
        exportable=next((trial.digest for trial in front if has_weights(study, trial.digest)), None),
    )
