"""Trials for the tests of the store: one that is plain, and all that there can be."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from nas.store import Store, StudyRecord
from nas.study.trial import Fidelity, Trial, TrialState, Value
from search_spaces.language.genotype import Genotype

COLUMNS = 2**31 - 1
"""The largest number of a trial."""

finite = st.floats(allow_nan=False, allow_infinity=False)
integers = st.integers(-(2**63), 2**63 - 1)
words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
labels = st.none() | st.booleans() | integers | finite | st.text(max_size=8)
jsons = st.recursive(
    labels, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3)
)
samples = st.lists(finite.map(lambda value: round(value, 5)), max_size=3).map(tuple)
figures = st.dictionaries(words, finite, max_size=2)
values = st.builds(Value, finite | integers, st.none() | finite, words, samples, figures)

trials = st.builds(
    Trial,
    number=st.integers(0, COLUMNS),
    genotype=st.builds(Genotype, st.dictionaries(st.text(max_size=12), labels, max_size=4)),
    fidelity=st.builds(Fidelity, evaluator=words, steps=st.integers(0, 2**63 - 1)),
    seed=integers,
    stage=st.sampled_from(["search", "final", "validate", "pick"]),
    state=st.sampled_from(TrialState),
    values=st.dictionaries(words, values, max_size=3),
    reason=st.none() | words,
    started=finite,
    finished=st.none() | finite,
    worker=words,
    memo=st.dictionaries(words, jsons, max_size=3),
    reused=st.none() | st.integers(0, COLUMNS),
)


def trial(number: int, **changes: Any) -> Trial:
    """A trial that runs; its architecture is told by its number."""
    plain: dict[str, Any] = {
        "genotype": Genotype({"depth": number}),
        "fidelity": Fidelity(evaluator="supernet", steps=10),
        "seed": 0,
        "started": 1.5,
    }
    return Trial(number=number, **{**plain, **changes})


def complete(number: int, loss: float = 1.25, **changes: Any) -> Trial:
    """The same trial when it has ended."""
    values = {"bits_per_byte": Value(loss, 0.01, "supernet", (1.0, 1.5))}
    return trial(number, state=TrialState.COMPLETE, values=values, finished=2.5, **changes)


def study_in(store: Store, name: str = "small", space: str = "ab12") -> StudyRecord:
    """A study in a store."""
    return store.create_study(name, space_digest=space, space_json="{}", config={"plan": {"trials": 3}})
