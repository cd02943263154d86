"""Records to rows and back.

JSON holds no NaN and no infinity (PostgreSQL refuses them, other readers choke on them), so neither does the
store: a number that is not finite is refused before anything is written. A candidate whose score is not
finite has failed, and is to be saved as FAILED with a reason.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

from sqlalchemy import Row

from nas.store.records import Measurement, StudyRecord
from nas.store.schema import trials
from nas.store.study_paths import check_study_name
from nas.study.trial import Fidelity, Trial, TrialState, Value
from search_spaces.language.genotype import Genotype

TRIAL_COLUMNS = tuple(column for column in trials.c if column.name not in ("study_id", "revision", "digest"))

TRIAL_TYPES: tuple[Any, ...] = (
    *(str, int, str, str, int, int, (float, int), (float, int, type(None)), str),
    *((int, type(None)), (str, type(None)), str, str, str, (int, type(None)), (int, type(None))),
)
"""What SQLite must have kept in `TRIAL_COLUMNS`: it takes anything everywhere."""

LABELS = {str, int, float, bool, type(None)}


def _not_finite_number(word: str) -> NoReturn:
    raise ValueError(f"it holds {word}")


_decode = json.JSONDecoder(parse_constant=_not_finite_number).decode
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
        "heard": trial.heard,
        "told": trial.told,
    }


def trial_of(row: Sequence[Any]) -> Trial:
    """The trial in a row that begins with `TRIAL_COLUMNS`.

    Raises:
        ValueError: it is malformed.
    """
    if not all(map(isinstance, row, TRIAL_TYPES)):
        wrong = [
            c.name
            for c, v, kind in zip(TRIAL_COLUMNS, row, TRIAL_TYPES, strict=False)
            if not isinstance(v, kind)
        ]
        raise ValueError(f"{', '.join(wrong)} of a wrong type")
    stage, number, state, evaluator, steps, seed, started, finished, worker, reused, reason = row[:11]
    genotype_json, values_json, memo_json, heard, told = row[11:16]
    return Trial(
        number=number,
        genotype=Genotype(_genes(_object(genotype_json, "genotype"))),
        fidelity=Fidelity(evaluator=evaluator, steps=steps),
        seed=seed,
        stage=stage,
        state=TrialState(state),
        values={name: Value.from_json(plain) for name, plain in _object(values_json, "values").items()},
        reason=reason,
        started=started,
        finished=finished,
        worker=worker,
        memo=_object(memo_json, "memo"),
        reused=reused,
        heard=heard,
        told=told,
    )


def trial_name(row: Sequence[Any]) -> tuple[str, str]:
    """What a trial is called whose row cannot be read."""
    return f"{row[0]} trial", str(row[1])


def study_of(row: Row[Any]) -> StudyRecord:
    """The study in a row of the table of studies.

    Raises:
        ValueError: it is malformed.
        SettingError: its name could not be a folder.
    """
    config = _object(row.config_json, "config")
    for name in ("plan", "space", "facts"):
        if not isinstance(config.get(name, {}), dict):
            raise ValueError(f"{name} of its config is not an object")
    check_study_name(row.name)
    if not isinstance(row.space_digest, str):
        raise ValueError("the digest of its space is not text")
    _date(row.created)
    return StudyRecord(row.id, row.name, row.created, row.space_digest, row.space_json, config)


def study_name(row: Row[Any]) -> tuple[str, str]:
    """What a study is called whose row cannot be read."""
    return "study", str(row.name)


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
    """The measurement in a row of the table of measurements.

    Raises:
        ValueError: it is malformed.
    """
    scenario = None if row.scenario_json is None else _object(row.scenario_json, "scenario")
    value = Value.from_json(_object(row.value_json, "value"))
    if not isinstance(row.digest, str) or not isinstance(row.name, str):
        raise ValueError("its name or the digest of its network is not text")
    return Measurement(row.digest, row.name, scenario, value, _date(row.created))


def measurement_name(row: Row[Any]) -> tuple[str, str]:
    """What a measurement is called whose row cannot be read."""
    return "measurement", f"{row.name} of {row.digest}"


def _object(text: Any, what: str) -> dict[str, Any]:
    """A JSON object, whose numbers are finite."""
    try:
        plain = _decode(text)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{what} is not JSON: {error}") from None
    if not isinstance(plain, dict):
        raise ValueError(f"{what} is not an object")
    return plain


def _genes(genes: dict[str, Any]) -> dict[str, Any]:
    if not {type(label) for label in genes.values()} <= LABELS:
        raise ValueError("genotype holds an answer that is no plain value")
    return genes


def _date(seconds: Any) -> float:
    try:
        datetime.fromtimestamp(seconds)
    except (TypeError, ValueError, OverflowError, OSError):
        raise ValueError(f"{seconds!r} is not the time at which it was created") from None
    return float(seconds)


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
