"""Records to rows and back.

JSON holds no NaN and no infinity (PostgreSQL refuses them, other readers choke on them), so neither does the
store: a number that is not finite is refused before anything is written. A candidate whose score is not
finite has failed, and is to be saved as FAILED with a reason.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Row

from nas.store.records import Measurement, StudyRecord
from nas.store.schema import trials
from nas.study.trial import Fidelity, Trial, TrialState, Value
from search_spaces.language.genotype import Genotype

TRIAL_COLUMNS = tuple(column for column in trials.c if column.name not in ("study_id", "revision", "digest"))

_encode = json.JSONEncoder(allow_nan=False, sort_keys=True, separators=(",", ":")).encode
_encode_in_order = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode


def config_text(config: Mapping[str, Any]) -> str:
    """The settings of a study as JSON.

    Raises:
        ValueError: a number is not finite.
    """
    return _finite_json(dict(config), "config of a study")


def trial_row(study_id: int, trial: Trial) -> dict[str, Any]:
    """The parameters that save a trial.

    Raises:
        ValueError: a number is not finite.
    """
    values = {name: value.to_json() for name, value in trial.values.items()}
    try:
        genotype_json = trial.genotype.to_json()  # the text that the digest is taken of
        values_json, memo_json = _encode_in_order(values), _encode_in_order(dict(trial.memo))
    except ValueError as error:
        raise ValueError(_not_finite(f"{trial.stage} trial {trial.number}", error)) from error
    return {
        "study_id": study_id,
        "of_study": study_id,
        "stage": trial.stage,
        "number": trial.number,
        "state": trial.state.value,
        "digest": trial.digest,
        "evaluator": trial.fidelity.evaluator,
        "steps": trial.fidelity.steps,
        "seed": trial.seed,
        "started": trial.started,
        "finished": trial.finished,
        "worker": trial.worker,
        "reused": trial.reused,
        "reason": None if trial.reason is None else _storable(trial.reason),
        "genotype_json": genotype_json,
        "values_json": values_json,
        "memo_json": memo_json,
    }


def trial_of(row: Sequence[Any]) -> Trial:
    """The trial in a row that begins with `TRIAL_COLUMNS`."""
    stage, number, state, evaluator, steps, seed, started, finished, worker, reused, reason = row[:11]
    genotype_json, values_json, memo_json = row[11:14]
    return Trial(
        number=number,
        genotype=Genotype.from_json(genotype_json),
        fidelity=Fidelity(evaluator=evaluator, steps=steps),
        seed=seed,
        stage=stage,
        state=TrialState(state),
        values={name: Value.from_json(plain) for name, plain in json.loads(values_json).items()},
        reason=reason,
        started=started,
        finished=finished,
        worker=worker,
        memo=json.loads(memo_json),
        reused=reused,
    )


def study_of(row: Row[Any]) -> StudyRecord:
    """The study in a row of the table of studies."""
    return StudyRecord(
        row.id, row.name, row.created, row.space_digest, row.space_json, json.loads(row.config_json)
    )


def measurement_row(study_id: int, measurement: Measurement) -> dict[str, Any]:
    """The parameters that add a measurement.

    Raises:
        ValueError: a number is not finite.
    """
    scenario, what = measurement.scenario, f"measurement {measurement.name} of {measurement.digest}"
    return {
        "study_id": study_id,
        "digest": measurement.digest,
        "name": measurement.name,
        "created": measurement.created,
        "scenario_json": None if scenario is None else _finite_json(dict(scenario), what),
        "value_json": _finite_json(measurement.value.to_json(), what),
    }


def measurement_of(row: Row[Any]) -> Measurement:
    """The measurement in a row of the table of measurements."""
    scenario = None if row.scenario_json is None else json.loads(row.scenario_json)
    return Measurement(
        row.digest, row.name, scenario, Value.from_json(json.loads(row.value_json)), row.created
    )


def _finite_json(plain: dict[str, Any], what: str) -> str:
    try:
        return _encode_in_order(plain)
    except ValueError as error:
        raise ValueError(_not_finite(what, error)) from error


def _not_finite(what: str, error: ValueError) -> str:
    return f"{what} cannot be stored, its numbers must be finite: {error}"


def _storable(text: str) -> str:
    """Text with what no database takes (lone surrogates, NUL) spelled out: a reason may quote anything."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")
