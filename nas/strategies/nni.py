"""Any tuner of NNI (Microsoft, extra `nni`) as a strategy: `nni:TPE`, `nni:Evolution`, `nni:GridSearch`.

A tuner walks: what it proposes depends on all its calls before, and on chance of its own. Here every call
gets its chance from the seed and the trial's number, and outcomes of a search that is resumed are told by
asking for their trials again. So a search by one candidate at a time asks after a stop what it would have
asked; with several workers the tuner hears outcomes in another order, and may go on otherwise.

What the driver moved to keep a constraint, or another search tried, a tuner hears as imported data where it
can take any, and else not at all.
"""

from __future__ import annotations

import hashlib
import logging
import random
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np

from foundation.error_text import told
from foundation.errors import IllegalArchitecture, SettingError, UnknownName
from foundation.files import parse_json
from foundation.registry import nearest
from foundation.settings import Settings, setting
from foundation.wording import argument
from nas.interop.nni import genotype_of, to_nni, values_of
from nas.strategies.base import Proposal, Strategy, strategies
from nas.study.trial import PARENTS, Trial, TrialState
from search_spaces.language.genotype import Genotype
from search_spaces.language.space import PATIENCE

EXTRA = "pip install 'nas[nni]'"
BY = "proposer"
TUNER, CHANCE = "tuner", "chance"
"""What proposes, in a trial's memo: chance does where the tuner gives nothing that is allowed."""


@dataclass(frozen=True, kw_only=True)
class TunerSettings(Settings):
    """What a tuner is made with."""

    title = "strategy nni"

    objective: str = setting(
        "", help="The objective that the tuner hears; it knows only one.", shown="the first one of the study"
    )
    arguments: str = setting(
        "{}", help="""Arguments of the tuner's class as JSON, e.g. '{"population_size": 16}'."""
    )


class Tuner(Strategy):
    """One tuner of NNI over the nested search space of the genes."""

    settings_kind = TunerSettings
    settings: TunerSettings
    tuner = ""

    def prepare(self) -> None:
        """A tuner over the nested space."""
        super().prepare()
        self._goal = self._goal_of(self.settings.objective)
        self._parameters = to_nni(self.space)
        self._proposed: dict[int, tuple[int, Genotype]] = {}  # the tuner's own number, and what it gave
        self._tuner: Any = None
        with self._chance(-1):
            self._tuner = _made(self.tuner, self._arguments())
            try:
                self._tuner.update_search_space(self._parameters)
            except (RuntimeError, TypeError, ValueError) as error:
                raise SettingError(
                    f"the tuner {self.tuner} cannot search {self.space.name}: {error}"
                ) from None

    def propose(self, number: int, dice: Random) -> Proposal:
        """What the tuner generates; a random architecture where it gives nothing that is allowed."""
        given = self._generated(number)
        if given is not None:
            return Proposal(given, {PARENTS: [], BY: TUNER})
        genotype, spec = self.space.propose_with_spec(lambda path, labels: dice.choice(labels))
        return Proposal(genotype, {PARENTS: [], BY: CHANCE}, spec)

    def take_up(self, trial: Trial) -> None:
        """Have the tuner generate a trial whose outcome is awaited again."""
        self._generated(trial.number)

    def tell(self, trial: Trial) -> None:
        """Let the tuner hear the value of its objective, or that there is none."""
        if trial.number not in self._proposed and trial.memo.get(BY) == TUNER:
            self._generated(trial.number)
        own, genotype = self._proposed.pop(trial.number, (None, None))
        name, maximised = self._goal
        known = trial.values.get(name) if trial.state is TrialState.COMPLETE else None
        with self._chance(trial.number):
            if own is not None and known is not None and genotype == trial.genotype:
                value = -known.value if maximised else known.value
                self._tuner.receive_trial_result(own, values_of(self._parameters, trial.genotype), value)
                self._tuner.trial_end(own, True)
            elif own is not None:
                self._tuner.trial_end(own, False)
        if known is not None and genotype != trial.genotype:
            value = -known.value if maximised else known.value
            self._tuner.import_data(
                [{"parameter": values_of(self._parameters, trial.genotype), "value": value}]
            )

    def _generated(self, number: int) -> Genotype | None:
        """The first allowed architecture that the tuner gives for a trial, of `PATIENCE`."""
        with self._chance(number):
            for attempt in range(PATIENCE):
                own = number * PATIENCE + attempt
                given = self._tuner.generate_multiple_parameters([own], st_callback=_unsent)
                if not given:  # it has no more, or none before it hears an outcome
                    return None
                try:
                    genotype, spec = genotype_of(self.space, given[0])
                    allowed = self.space.objection(spec) is None
                except IllegalArchitecture:
                    allowed = False
                if allowed:
                    self._proposed[number] = own, genotype
                    return genotype
                self._tuner.trial_end(own, False)
        return None

    @contextmanager
    def _chance(self, number: int) -> Iterator[None]:
        """Chance for one call, wherever a tuner looks for it; that of others is left as it was."""
        digest = hashlib.sha256(f"{self.seed}/{number}".encode()).digest()
        seed = int.from_bytes(digest[:4], "big")
        for own in vars(self._tuner).values() if self._tuner is not None else ():
            if isinstance(own, np.random.RandomState):
                own.seed(seed)
            elif isinstance(own, np.random.Generator):
                own.bit_generator.state = np.random.default_rng(seed).bit_generator.state
        before = random.getstate(), np.random.get_state(), np.random.RandomState  # noqa: NPY002
        try:
            random.seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            np.random.RandomState = _seeded(seed)  # type: ignore[misc]  # that some make without a seed
            yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])  # noqa: NPY002
            np.random.RandomState = before[2]  # type: ignore[misc]

    def _goal_of(self, name: str) -> tuple[str, bool]:
        goals = dict(self.goals)
        if name and name not in goals:
            raise SettingError(f"strategy nni: objective is one of {', '.join(goals)}, got {name!r}")
        return self.goals[0] if not name else (name, goals[name])

    def _arguments(self) -> dict[str, Any]:
        try:
            plain = parse_json(self.settings.arguments)
        except ValueError as error:
            raise SettingError(f"strategy nni: {argument('arguments')} is JSON: {error}") from None
        if not isinstance(plain, dict):
            raise SettingError(f"strategy nni: {argument('arguments')} is an object, got {plain!r}")
        return plain


@strategies.add_family("nni")
def tuner_named(name: str) -> type[Strategy]:
    """The strategy of a tuner by its name in NNI, whatever its case.

    Raises:
        SettingError: NNI is not installed.
        UnknownName: it has no such tuner.
    """
    known = {meta.name: meta for meta in _algorithms() if meta.algo_type == "tuner"}
    alike = [own for own, meta in known.items() if name.lower() in (own.lower(), str(meta.alias).lower())]
    if not alike:
        raise UnknownName(f"NNI has no tuner {name!r}; {nearest(name, known)}")
    attributes = {"name": f"nni:{alike[0]}", "tuner": alike[0], "__doc__": f"NNI's tuner {alike[0]}."}
    return type(f"Tuner{alike[0]}", (Tuner,), attributes)


def _algorithms() -> list[Any]:
    """What NNI has built in or registered.

    Raises:
        SettingError: it is not installed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of packages that NNI imports
        try:
            from nni.tools.package_utils.config_manager import get_all_algo_meta
        except ImportError as error:
            raise SettingError(f"tuners of NNI need the package nni ({error}): {EXTRA}") from None
    logging.getLogger("nni").setLevel(logging.ERROR)
    return list(get_all_algo_meta())


def _made(name: str, arguments: Mapping[str, Any]) -> Any:
    """A tuner that minimises.

    Raises:
        SettingError: it needs another package, or takes no such arguments.
    """
    from nni.tools.package_utils.tuner_factory import create_builtin_class_instance

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for defaults in ({"optimize_mode": "minimize"}, {}):  # some always minimise, and take no mode
            try:
                return create_builtin_class_instance(name, {**defaults, **arguments}, "tuners")
            except ImportError as error:
                raise SettingError(f"the tuner {name} of NNI cannot be imported: {error}") from None
            except (TypeError, ValueError, AttributeError, RuntimeError) as error:
                reason = told(error)
    raise SettingError(f"the tuner {name} of NNI cannot be made with {dict(arguments)}: {reason}")


def _seeded(seed: int) -> type[np.random.RandomState]:
    """The class of generators that have this seed where they are given none."""

    class Seeded(np.random.RandomState):
        def __init__(self, given: Any = seed) -> None:
            super().__init__(given)

    return Seeded


def _unsent(*_: Any) -> None:
    """What a tuner would send later is not awaited: it is asked again instead."""
