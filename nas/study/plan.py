"""The settings of a study: plain values, stored with it, so that `nas resume` needs only its name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from foundation.errors import SettingError, UnknownName
from foundation.registry import nearest
from search_spaces.scenario import Scenario

FREE = ("trials", "source", "allow_rough_table", "profile_seconds")
"""What may change between two runs of a study."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that decides the outcome of a study, except its space.

    `steps` are training steps of the supernet (or of every candidate, with the evaluator "scratch");
    `length` and `windows` are the tokens per window and the number of validation windows, by default the
    task's own; `rungs` are the training steps of successive halving, of which each keeps `keep` of its
    networks.

    `engine` is how the weights are searched; `strategy_settings` are the settings of the strategy where the
    engine asks one ("ofa"), else of the engine. `supernet` is the folder of a trained supernet to read
    from, whose steps, batch and windows then hold; without one, the study trains its own. `device` is where
    networks are trained and scored; where they are timed is the scenario's business.

    `scenario` is how the network will be used; a study under several scenarios has the others in `also`, all
    of them with names. `tables` are files of latency tables, each for the scenario it was measured under;
    where there is none, one is measured, or with `estimate`, a device card, latency is estimated by a
    roofline. A table that errs by more than 10 % is used only with `allow_rough_table`. `on` is a device of
    a Ray cluster: tables are measured there, and the front is timed there, instead of on this machine.
    """

    objectives: tuple[str, ...] = ("bits_per_byte", "decode_ms", "weight_bytes")
    constraints: tuple[str, ...] = ()
    trials: int = 300
    engine: str = "ofa"
    strategy: str = "nsga2"
    strategy_settings: Mapping[str, Any] = field(default_factory=dict)
    evaluator: str = "supernet"
    steps: int = 250
    batch: int = 16
    length: int | None = None
    windows: int | None = None
    data: str | None = None
    scenario: Scenario = field(default_factory=Scenario)
    seed: int = 0
    profile_seconds: float = 30.0
    also: tuple[Scenario, ...] = ()
    tables: tuple[str, ...] = ()
    estimate: str | None = None
    allow_rough_table: bool = False
    finalists: int = 6
    rungs: tuple[int, ...] = (100, 300, 800)
    keep: float = 1 / 3
    source: str | None = None
    supernet: str | None = None
    device: str = "cpu"
    on: str | None = None

    def __post_init__(self) -> None:
        for name in ("trials", "steps", "batch", "length", "windows"):
            value = getattr(self, name)
            if value is None and name in ("length", "windows"):
                continue
            if not isinstance(value, int) or value < (0 if name == "trials" else 1):
                raise SettingError(f"{name} must be a positive whole number, got {value!r}")
        if not self.objectives:
            raise SettingError("a study needs at least one objective")
        if len(set(self.objectives)) != len(self.objectives):
            raise SettingError(f"objectives are named twice: {', '.join(self.objectives)}")
        if self.finalists and list(self.rungs) != sorted(set(self.rungs)):
            raise SettingError(f"rungs must grow, got {self.rungs}")
        if not 0 < self.keep <= 1:
            raise SettingError(f"keep must be within (0, 1], got {self.keep}")
        if self.on is not None and self.estimate is not None:
            raise SettingError(f"latency is measured on {self.on} or estimated from a card: choose one")
        names = [scenario.name for scenario in self.scenarios]
        if self.also and (not all(names) or len(set(names)) != len(names)):
            raise SettingError(
                f"several scenarios need names of their own, as chat=batch=1,prompt=512: got {names}"
            )

    @property
    def scenarios(self) -> tuple[Scenario, ...]:
        """All scenarios."""
        return (self.scenario, *self.also)

    def to_json(self) -> dict[str, Any]:
        """Plain values by name."""
        return {**asdict(self), "strategy_settings": dict(self.strategy_settings)}

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Plan:
        """The plan written by `to_json`; an unknown setting is an error that suggests the nearest."""
        known = {f.name for f in fields(cls)}
        plain = _of_old(plain)
        for name in plain:
            if name not in known:
                raise UnknownName(f"unknown setting {name!r}; {nearest(name, known)}")
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in plain.items()
        }
        given = values.get("scenario")
        if isinstance(given, tuple):  # several, as the command line and `nas.search` take them
            values["scenario"], values["also"] = given[0], given[1:]
        if isinstance(values.get("scenario"), Mapping):
            values["scenario"] = Scenario(**values["scenario"])
        values["also"] = tuple(
            Scenario(**one) if isinstance(one, Mapping) else one for one in values.get("also", ())
        )
        return cls(**values)

    def require_same(self, other: Plan) -> None:
        """Raise `SettingError` where `other` would turn this study into another one.

        Only what is in `FREE` may change between runs.
        """
        for f in fields(self):
            mine, theirs = getattr(self, f.name), getattr(other, f.name)
            if f.name not in FREE and mine != theirs:
                raise SettingError(
                    f"this study was started with {f.name}={mine!r}, not {theirs!r}: choose another name"
                )

    def going_on_as(self, other: Plan) -> Plan:
        """The same plan with as many trials as either, and what `other` permits."""
        return replace(
            self,
            trials=max(self.trials, other.trials),
            allow_rough_table=self.allow_rough_table or other.allow_rough_table,
            profile_seconds=other.profile_seconds,
        )

    def with_trials(self, trials: int) -> Plan:
        """The same plan with another number of trials."""
        return replace(self, trials=trials)


def _of_old(plain: Mapping[str, Any]) -> Mapping[str, Any]:
    """Settings in which there was one table, now with `tables`."""
    if "table" not in plain:
        return plain
    table = plain["table"]
    return {**{name: v for name, v in plain.items() if name != "table"}, "tables": [table] if table else []}
