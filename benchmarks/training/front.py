"""Does the front that a search finds beat the networks that a sceptic would choose?

    python -m benchmarks.training.front --data FOLDER                    # `gpu` on one GPU, over an hour
    python -m benchmarks.training.front --data FOLDER --workers 2 --gpu-share 1        # on two
    python -m benchmarks.training.front --space laptop --seeds 2         # the same on a CPU

A study as `nas search SPACE --final-seeds 3` makes it: finalists, the baselines of the space beside them, and
the last of both trained from every seed, for equal tokens, by one recipe. Prints the verdicts of its report,
and a row for each network that was trained longest. The study goes on where it was when this is called again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import nas
from benchmarks.common import keep, show_plainly
from foundation.statistics import mean_and_error
from nas.executors.workers import Workers
from nas.steps.repeats import repeated
from nas.study.baseline_gaps import verdicts
from nas.study.given_networks import given_name, is_given
from nas.study.study import Study
from nas.study.trial import TrialState
from search_spaces.language.genotype import Genotype

NAME = "training_front"
HIDDEN = ("seeds", "architecture")
"""What of a row is kept and not printed."""


def main() -> None:
    """Search, train what is compared from every seed, and print what came out."""
    wanted = _arguments()
    folder = Path(wanted.folder)
    folder.mkdir(parents=True, exist_ok=True)
    settings = {name: _value(text) for name, _, text in (each.partition("=") for each in wanted.set)}
    settings |= {} if wanted.data is None else {"data": wanted.data}
    study = nas.search(
        wanted.space,
        name="front",
        store=str(folder / "studies.db"),
        yes=True,
        final_seeds=wanted.seeds,
        workers=Workers(wanted.workers, gpu_share=wanted.gpu_share),
        **settings,
    )
    rows = compared(study)
    show_plainly("Trained longest", [{k: v for k, v in row.items() if k not in HIDDEN} for row in rows])
    told = [str(verdict) for verdict in verdicts(study)]
    for line in told:
        print(line)
    command = f"python -m benchmarks.training.front --space {wanted.space}"
    facts = {name: study.facts[name] for name in ("corpus", "supernet") if name in study.facts}
    keep(NAME, command, rows, device=study.plan.train_on, verdicts=told, facts=facts)


def compared(study: Study) -> list[dict[str, Any]]:
    """A row for each network of the last rung and each baseline beside it."""
    rung, networks = repeated(study)
    assert rung is not None
    return [_row(study, genotype, rung.fidelity.steps) for genotype in dict.fromkeys(networks)]


def _row(study: Study, genotype: Genotype, steps: int) -> dict[str, Any]:
    """What is known of a network: its scores by seed, and what was measured of it."""
    assert study.quality is not None
    quality = study.quality.name
    trials = [
        trial
        for stage in ("final", "baseline", "repeat")
        for trial in study.trials(stage)
        if trial.digest == genotype.digest
        and trial.fidelity.steps == steps
        and trial.state is TrialState.COMPLETE
    ]
    scores = {trial.seed: trial.values[quality].value for trial in trials}
    values = list(scores.values())
    mean, error = mean_and_error(values) if len(values) > 1 else (values[0], float("nan"))
    numbers = study.numbers(trials[0])
    costs = {name: numbers[name].value for name in study.plan.objectives if name != quality}
    spec = study.spec(trials[0])
    return {
        "network": given_name(genotype) if is_given(genotype) else f"winner {genotype.digest[:8]}",
        quality: mean,
        "error": error,
        **costs,
        "weight_bytes": spec.cost(study.plan.scenarios[0]).weight_bytes,
        "steps": steps,
        "seeds": scores,
        "architecture": str(spec).splitlines(),
    }


def _value(text: str) -> Any:
    """A setting of the plan: JSON where it looks like it, else a word."""
    return json.loads(text) if text[:1] in '[{"0123456789' else text


def _arguments() -> argparse.Namespace:
    plain = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=plain)
    parser.add_argument("--space", default="gpu")
    parser.add_argument("--data", default=None, help="text: a folder; default: Python's own library")
    parser.add_argument("--folder", default="studies/front", help="where the study is kept")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=0, help="Ray actors; 0: none, in this process")
    parser.add_argument("--gpu-share", type=float, default=0.0, help="GPUs that each of them holds")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="settings of the plan")
    return parser.parse_args()


if __name__ == "__main__":
    main()
