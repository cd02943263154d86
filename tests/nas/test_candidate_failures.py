"""Whatever a candidate does to the process that scores it is its own failure, and the study goes on."""

from __future__ import annotations

import errno
import os
import signal
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import nas
from foundation.error_text import LONGEST, cut_line
from foundation.errors import EvaluationFailed, FileError
from nas.evaluator_faults import EvaluatorFaults
from nas.executors.base import FunctionScorer, WorkItem, score_item
from nas.study.deaths import after_death
from nas.study.study import Study, open_study
from nas.study.trial import Fidelity, Trial, TrialState, Value
from search_spaces.language.genotype import Genotype
from tests.forks import Fork
from tests.nas.toys import Toy, small, toy_space


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class Leaving(BaseException):
    """Not an `Exception`."""


def recursive(spec: Any) -> float:
    return recursive(spec)


def raising(error: BaseException) -> Callable[[Any], float]:
    def score(spec: Any) -> float:
        raise error

    return score


def warned(spec: Any) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.warn("an old call", DeprecationWarning, stacklevel=1)
    return 0.0


REASONS = [
    (raising(SystemExit(3)), "SystemExit: 3"),
    (raising(SystemExit()), "SystemExit"),
    (raising(KeyboardInterrupt()), "KeyboardInterrupt"),
    (raising(GeneratorExit("done")), "GeneratorExit: done"),
    (raising(Leaving("bye")), "Leaving: bye"),
    (raising(Unprintable()), "Unprintable: (its text raises RuntimeError)"),
    (raising(ValueError("a\nb\r\n\tc")), "ValueError: a b c"),
    (raising(ValueError("\x1b[31mred\x1b[0m \x1b]0;title\x07end\x00")), "ValueError: red end"),
    (raising(ValueError("\ud800 alone")), "ValueError: alone"),
    (raising(MemoryError("1 TB")), "out of memory: 1 TB"),
    (raising(OSError(errno.EACCES, "no")), "PermissionError: [Errno 13] no"),
    (recursive, "RecursionError: maximum recursion depth exceeded"),
    (warned, "DeprecationWarning: an old call"),
    (lambda spec: float("inf"), "f is inf"),
    (lambda spec: -float("inf"), "f is -inf"),
    (lambda spec: Value(1.0, error=float("nan")), "the error of f is nan"),
    (lambda spec: Value(1.0, error=-1.0), "the error of f is -1.0"),
    (lambda spec: Value(1.0, samples=(1.0, float("nan"))), "a sample of f is not finite"),
    (lambda spec: None, "TypeError: float() argument must be a string or a real number, not 'NoneType'"),
    (lambda spec: 10**400, "OverflowError: int too large to convert to float"),
]


@pytest.mark.parametrize(("function", "reason"), REASONS, ids=[reason for _, reason in REASONS])
def test_everything_that_is_raised_is_a_reason_in_one_line(
    function: Callable[[Any], float], reason: str
) -> None:
    outcome = score_item({"f": FunctionScorer(function)}, WorkItem(0, None, 0, 0))
    assert str(outcome.reason).startswith(reason)
    assert not outcome.values


@pytest.mark.parametrize("text", ["x" * 10**6, "\x1b[1m" * 10**5, "word " * 10**5, "\n" * 10**6])
def test_a_reason_is_short(text: str) -> None:
    assert len(cut_line(text)) <= LONGEST
    outcome = score_item({"f": FunctionScorer(raising(ValueError(text)))}, WorkItem(0, None, 0, 0))
    assert str(outcome.reason).startswith("ValueError")
    assert len(str(outcome.reason)) <= LONGEST


@pytest.mark.parametrize(
    "error",
    [FileError("disk full"), OSError(errno.ENOSPC, "No space left"), OSError(errno.EROFS, "read only")],
)
def test_what_is_wrong_with_the_machine_is_no_fault_of_a_candidate(error: Exception) -> None:
    with pytest.raises(type(error)):
        score_item({"f": FunctionScorer(raising(error))}, WorkItem(0, None, 0, 0))


def test_a_signal_stops_also_where_a_scorer_catches_what_it_raises() -> None:
    def swallowing(spec: Any) -> float:
        try:
            signal.raise_signal(signal.SIGINT)
        except BaseException:
            return 1.0
        return 0.0

    with pytest.raises(KeyboardInterrupt):
        score_item({"f": FunctionScorer(swallowing)}, WorkItem(0, None, 0, 0))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def run(folder: Path, function: Callable[[Any], float], trials: int = 40) -> Study:
    return nas.search(
        toy_space(),
        name="s",
        objectives=[function],
        store=folder / "s.db",
        trials=trials,
        strategy="random",
        finalists=0,
    )


def outcomes(trials: list[Trial]) -> list[tuple[str, str, str | None]]:
    return [(trial.digest, trial.state.value, trial.reason) for trial in trials]


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), GeneratorExit(), Leaving("bye")])
def test_the_study_goes_on(error: BaseException, tmp_path: Path) -> None:
    def fragile(spec: Toy) -> float:
        if len(spec.stack) == 2:
            raise error
        return small(spec)

    trials = run(tmp_path, fragile).trials()
    failed = [trial for trial in trials if trial.state is TrialState.FAILED]
    assert len(trials) == 40
    assert {str(trial.reason).split(":")[0] for trial in failed} == {type(error).__name__}


@pytest.mark.parametrize("share", [2, 3])
def test_a_study_of_which_most_fail_goes_on(share: int, tmp_path: Path) -> None:
    calls: list[int] = []

    def fragile(spec: Toy) -> float:
        calls.append(1)
        if len(calls) < 8 or len(calls) % share:
            raise ValueError("not this one")
        return small(spec)

    assert len(run(tmp_path, fragile, trials=120).trials()) == 120


def test_an_evaluator_that_breaks_later_is_noticed() -> None:
    faults = EvaluatorFaults()
    for _ in range(100):
        faults.ended(succeeded=True)
    for _ in range(19):
        faults.broke("the device fell off")
    with pytest.raises(EvaluationFailed, match="20 times"):
        faults.broke("the device fell off")


def deadly(folder: str, how: str) -> None:
    """A search in which some candidates kill the process."""

    def killer(spec: Toy) -> float:
        if len(spec.stack) == 2 and spec.shared == 2:
            if how == "exit":
                os._exit(7)
            os.kill(os.getpid(), getattr(signal, how))
        return small(spec)

    run(Path(folder), killer)


@pytest.mark.parametrize(
    "how", ["SIGKILL", *(pytest.param(how, marks=pytest.mark.slow) for how in ("exit", "SIGSEGV", "SIGABRT"))]
)
def test_a_candidate_that_kills_its_process_fails_after_two_tries(how: str, tmp_path: Path) -> None:
    codes = []
    for _ in range(60):
        codes.append(Fork(deadly, str(tmp_path), how).wait().returncode)
        if codes[-1] == 0:
            break
    assert codes[-1] == 0
    study = open_study("s", tmp_path / "s.db")
    killers = {
        t.digest for t in study.trials() if len(study.spec(t).stack) == 2 and study.spec(t).shared == 2
    }
    assert killers
    assert len(codes) == 2 * len(killers) + 1, "each architecture dies twice, and is not tried again"
    for trial in study.trials():
        dead = trial.digest in killers
        assert trial.state is (TrialState.FAILED if dead else TrialState.COMPLETE)
        assert trial.reason == ("the process died while it was scored, 2 times" if dead else None)
    assert [trial.number for trial in study.trials()] == list(range(40))


def test_stops_in_good_order_are_not_counted(tmp_path: Path) -> None:
    calls: list[int] = []

    def interrupted(spec: Toy) -> float:
        calls.append(1)
        if len(calls) in (3, 4, 5, 6):
            signal.raise_signal(signal.SIGINT)
        return small(spec)

    for _ in range(4):
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, interrupted, trials=6)
    trials = run(tmp_path, interrupted, trials=6).trials()
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}
    assert all(trial.reason is None for trial in trials)


@pytest.mark.parametrize(("evaluator", "tries"), [("supernet", 2), ("scratch", 10)])
def test_what_trains_for_long_is_tried_more_often_when_its_process_is_killed(
    evaluator: str, tries: int
) -> None:
    trial = Trial(number=0, genotype=Genotype({}), fidelity=Fidelity(evaluator=evaluator, steps=9), seed=0)
    for died in range(1, tries + 1):
        trial = after_death(trial)
        assert (trial.state is TrialState.FAILED) == (died == tries)
    assert trial.reason == f"the process died while it was scored, {tries} times"
