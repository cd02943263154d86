"""What a store hands out besides trials: studies, and numbers that belong to no trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nas.study.trial import Value


@dataclass(frozen=True)
class StudyRecord:
    """A study as it is stored; `created` is in seconds since 1970, `config` is anything JSON can hold."""

    id: int
    name: str
    created: float
    space_digest: str
    space_json: str
    config: Mapping[str, Any]


@dataclass(frozen=True)
class Measurement:
    """A number about one architecture that belongs to no trial, such as the latency of its network.

    `scenario` says under which circumstances it holds, where that matters.
    """

    digest: str
    name: str
    scenario: Mapping[str, Any] | None
    value: Value
    created: float


@dataclass(frozen=True)
class StudyRows:
    """All that a database holds about a study, column by column, readable or not."""

    study: Mapping[str, Any]
    trials: Sequence[Mapping[str, Any]]
    measurements: Sequence[Mapping[str, Any]]
