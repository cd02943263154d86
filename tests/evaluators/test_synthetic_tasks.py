"""Synthetic tasks: an oracle that reads the tokens makes no error, and the floor is what guessing earns."""

from __future__ import annotations

import hashlib
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluators.tasks.base import IGNORED, tasks
from evaluators.tasks.compression import Compression
from evaluators.tasks.fuzzy_recall import FuzzyRecall
from evaluators.tasks.in_context_recall import InContextRecall
from evaluators.tasks.induction_heads import InductionHeads
from evaluators.tasks.memorization import Memorization
from evaluators.tasks.noisy_recall import NoisyRecall
from evaluators.tasks.parity import Parity
from evaluators.tasks.permutation_composition import PermutationComposition
from evaluators.tasks.recall import Recall
from evaluators.tasks.selective_copying import SelectiveCopying
from evaluators.tasks.synthetic import Synthetic
from foundation.errors import SettingError

KINDS = [kind for kind in tasks.values() if issubclass(kind, Synthetic)]

SIZES = st.one_of(
    st.builds(Compression, tokens=st.integers(3, 20), length=st.integers(2, 33)),
    st.builds(
        FuzzyRecall, tokens=st.just(12), keys=st.integers(1, 4), word=st.just(3), length=st.integers(30, 50)
    ),
    st.builds(
        InContextRecall, tokens=st.integers(10, 30), keys=st.integers(1, 5), length=st.integers(12, 41)
    ),
    st.builds(InductionHeads, tokens=st.integers(3, 30), length=st.integers(3, 40)),
    st.builds(Memorization, facts=st.integers(2, 50), length=st.integers(2, 31)),
    st.builds(NoisyRecall, keys=st.integers(1, 3), noise=st.floats(0, 0.7), length=st.integers(33, 60)),
    st.builds(Parity, length=st.integers(2, 50)),
    st.builds(PermutationComposition, things=st.integers(2, 4), length=st.integers(2, 20)),
    st.builds(Recall, pairs=st.integers(1, 5), length=st.integers(15, 40), sequences=st.just(20)),
    st.builds(
        SelectiveCopying, tokens=st.integers(4, 20), copied=st.integers(1, 6), length=st.integers(12, 40)
    ),
)
"""Tasks of many sizes."""


def small(kind: type[Synthetic], windows: int = 200) -> Synthetic:
    return kind.make(data=None, length=None, windows=windows)


@pytest.fixture(params=KINDS, ids=lambda kind: str(kind.name))
def task(request: pytest.FixtureRequest) -> Synthetic:
    return small(request.param)


def test_an_oracle_that_reads_the_tokens_makes_no_error(task: Synthetic) -> None:
    tokens, targets = task.validation()
    solved = torch.tensor([task.solve(row) for row in tokens.tolist()])
    certain = torch.nn.functional.one_hot(solved.clamp(min=0), task.vocab).float()
    assert torch.equal(task.judge(certain, targets), torch.zeros(task.windows, dtype=torch.float64))


@given(task=SIZES, seed=st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_answers_follow_from_the_tokens_at_any_size(task: Synthetic, seed: int) -> None:
    tokens, targets = task.train_batch(seed, seed, 3)
    assert tokens.shape == targets.shape == (3, task.length)
    assert 0 <= int(tokens.min()) <= int(tokens.max()) < task.vocab
    assert (targets != IGNORED).any(1).all()
    for read, answers in zip(tokens.tolist(), targets.tolist(), strict=True):
        solved = task.solve(read)
        assert len(solved) == task.length
        assert all(
            found == answer for found, answer in zip(solved, answers, strict=True) if answer != IGNORED
        )


@given(task=SIZES, seed=st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_an_answer_depends_on_no_later_token(task: Synthetic, seed: int) -> None:
    if isinstance(task, Compression):
        return  # how much is said again, the length says
    tokens, targets = task.train_batch(0, seed, 1)
    read, answers = tokens[0].tolist(), targets[0].tolist()
    last = max(place for place, answer in enumerate(answers) if answer != IGNORED)
    first = min(place for place, answer in enumerate(answers) if answer != IGNORED)
    for place in {first, last}:
        assert task.solve(read[: place + 1])[place] == answers[place]


def test_the_floor_is_what_guessing_earns(task: Synthetic) -> None:
    """Guesses are uniform among all answers that come; 4 standard deviations: false once in 16,000 times."""
    judged = small(type(task), 1000).validation()[1]
    judged = judged[judged != IGNORED]
    answers = judged.unique()
    assert len(answers) == round(1 / (1 - task.floor))
    guesses = torch.randint(len(answers), judged.shape, generator=torch.Generator().manual_seed(0))
    error = (answers[guesses] != judged).double().mean().item()
    noise = math.sqrt(task.floor * (1 - task.floor) / len(judged))
    assert error == pytest.approx(task.floor, abs=4 * noise)


def test_no_constant_answer_is_far_better_than_guessing(task: Synthetic) -> None:
    """The most frequent answer comes at most half as often again as all of them do on average."""
    judged = small(type(task), 1000).validation()[1]
    judged = judged[judged != IGNORED]
    assert judged.bincount().max().item() / len(judged) < 1.5 * (1 - task.floor)


CHECKSUMS = {
    "compression": "a8f2720c326e",
    "fuzzy_recall": "d17e3fb8c520",
    "in_context_recall": "dae49111a066",
    "induction_heads": "81a49bd470df",
    "memorization": "ef16eb433ce1",
    "noisy_recall": "1ad99d0ec24d",
    "parity": "531faa52c182",
    "permutation_composition": "bf42f6029048",
    "recall": "a3412394f597",
    "selective_copying": "daad49a5f375",
}


def checksum(task: Synthetic) -> str:
    parts = [*task.train_batch(3, 1, 4), *task.validation()]
    return hashlib.sha256(b"".join(part.numpy().tobytes() for part in parts)).hexdigest()[:12]


def test_sequences_are_the_same_in_every_process_and_on_every_machine(task: Synthetic) -> None:
    assert checksum(task) == CHECKSUMS[task.name]


@pytest.mark.parametrize(
    ("kind", "sizes", "said"),
    [
        (InContextRecall, {"keys": 16}, "in_context_recall: room for 1 to 15 keys, got 16"),
        (
            NoisyRecall,
            {"noise": 0.9, "keys": 2},
            "noisy_recall: room for 1 to 1 keys beside the noise, got 2",
        ),
        (NoisyRecall, {"noise": 0.95}, "noise must be at most 0.9"),
        (FuzzyRecall, {"keys": 7}, "fuzzy_recall: room for 1 to 6 keys, got 7"),
        (FuzzyRecall, {"tokens": 7}, "tokens must be at least 8, got 7"),
        (SelectiveCopying, {"copied": 17}, "selective_copying: room for 1 to 16 copied tokens, got 17"),
        (Compression, {"length": 1}, "length must be at least 2, got 1"),
        (Memorization, {"facts": 1}, "facts must be at least 2, got 1"),
        (InductionHeads, {"length": 2}, "length must be at least 3, got 2"),
        (Parity, {"windows": 1}, "windows must be at least 2, got 1"),
        (PermutationComposition, {"things": 6}, "things must be at most 5, got 6"),
        (Recall, {"pairs": 11}, "recall: 64 tokens and length 32 have room for 1 to 10 pairs, got 11"),
    ],
)
def test_sizes_that_make_no_task_are_refused(kind: type[Synthetic], sizes: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingError, match=said):
        kind(**sizes)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: str(kind.name))
def test_a_text_is_refused(kind: type[Synthetic]) -> None:
    with pytest.raises(SettingError, match=f"{kind.name} makes its own sequences"):
        kind.make(data="text", length=None, windows=None)


def test_permutations_are_applied_one_after_the_other() -> None:
    task = PermutationComposition(things=3, length=3)
    swap, turn = 1, 3  # (0, 2, 1) and (1, 2, 0)
    assert task.solve([swap, turn, swap]) == [1, 2, 4]  # by hand
    assert task.solve([turn, turn, turn])[-1] == 0  # a turn of three things, three times


def test_a_state_may_be_tracked_for_longer_than_was_learned() -> None:
    task = Parity(length=8, judged_length=20, windows=6)
    assert task.train_batch(0, 0, 2)[0].shape == (2, 8)
    tokens, targets = task.validation()
    assert tokens.shape == (6, 20)
    assert [task.solve(read) for read in tokens.tolist()] == targets.tolist()
    assert torch.equal(tokens, Parity(length=20, windows=6).validation()[0])
    assert task.digest != Parity(length=8, windows=6).digest
    with pytest.raises(SettingError, match="judged_length must be at least 2, got 1"):
        Parity(judged_length=1)


def test_two_things_are_parity() -> None:
    flips, parity = PermutationComposition(things=2, length=8), Parity(length=8)
    for tokens in flips.train_batch(0, 0, 5)[0].tolist():
        assert flips.solve(tokens) == parity.solve(tokens)
