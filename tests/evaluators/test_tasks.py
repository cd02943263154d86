import math
import pickle
from itertools import pairwise

import pytest
import torch

from evaluators.tasks.base import IGNORED, tasks
from evaluators.tasks.language import LanguageModelling
from evaluators.tasks.recall import Recall
from foundation.errors import DataError, SettingError
from tests.evaluators import tiny


@pytest.fixture
def task(tmp_path):
    return tiny.task(tmp_path)


def test_language_is_registered():
    assert tasks["language"] is LanguageModelling


def test_targets_are_the_next_tokens(task):
    for tokens, targets in (task.train_batch(0, 0, 4), task.validation()):
        assert tokens.dtype == targets.dtype == torch.int64
        assert torch.equal(tokens[:, 1:], targets[:, :-1])
        assert 0 <= int(tokens.min()) <= int(tokens.max()) < task.vocab == 256
    assert task.train_batch(0, 0, 4)[0].shape == (4, 16)
    assert task.validation()[0].shape == (8, 16)


def test_batches_depend_on_seed_and_step_only(task):
    again = pickle.loads(pickle.dumps(task))
    batch = task.train_batch(7, 1, 4)[0]
    task.train_batch(3, 0, 4)
    assert torch.equal(again.train_batch(7, 1, 4)[0], batch)
    assert not torch.equal(task.train_batch(8, 1, 4)[0], batch)
    assert not torch.equal(task.train_batch(7, 2, 4)[0], batch)


def test_validation_windows_are_fixed_and_do_not_overlap(task):
    text = task.corpus.valid.tobytes()
    windows = task.validation()[0]
    assert torch.equal(windows, task.validation()[0])
    assert bytes(windows[0].tolist()) == text[:16]
    assert bytes(task.validation()[1][-1].tolist()) == text[-16:]
    full = LanguageModelling(task.corpus_folder, 16, (len(text) - 1) // 16)
    step = len(text) // full.windows
    starts = [text.find(bytes(w.tolist()), max(0, i * step - 2)) for i, w in enumerate(full.validation()[0])]
    assert all(later - earlier >= 16 for earlier, later in pairwise(starts))


def test_digest_names_data_and_windows(task, tmp_path):
    (tmp_path / "again").mkdir()
    assert tiny.task(tmp_path / "again").digest == task.digest
    assert tiny.task(tmp_path, length=8).digest != task.digest
    assert len(task.digest) == 12


def test_unit_is_bits(task):
    assert (task.unit, task.nats) == ("bits per byte", math.log(2))


def test_windows_that_do_not_fit_are_refused(task):
    with pytest.raises(DataError, match=r"for validation, and these windows need 100,001"):
        LanguageModelling(task.corpus_folder, 1000, 100).validation()
    with pytest.raises(DataError, match=r"for training, and these windows need 1,000,001"):
        LanguageModelling(task.corpus_folder, 1_000_000).train_batch(0, 0, 1)
    with pytest.raises(SettingError, match="windows at least 2"):
        LanguageModelling(task.corpus_folder, windows=1)


def test_recall_asks_for_what_it_told():
    task = Recall(tokens=64, length=33, pairs=5, sequences=50, windows=20)
    for tokens, targets in (task.train_batch(0, 0, 50), task.validation()):
        assert tokens.shape == targets.shape
        assert tokens.shape[1] == 33
        for read, answers in zip(tokens.tolist(), targets.tolist(), strict=True):
            told = dict(zip(read[0:10:2], read[1:10:2], strict=True))
            asked = {read[i]: answer for i, answer in enumerate(answers) if answer != IGNORED}
            assert asked == told
            assert len(told) == 5
            assert all(1 <= key < 32 <= value < 64 for key, value in told.items())
            assert all(answer == IGNORED for answer in answers[:10])


def test_recall_shuffles_all_its_sequences_in_each_epoch():
    task = Recall(sequences=7, windows=2)
    seen = torch.cat([task.train_batch(step, 3, 5)[0] for step in range(7)])
    first, second = seen[:7], seen[7:14]
    assert not torch.equal(first, second)
    assert torch.equal(first.unique(dim=0), second.unique(dim=0))
    assert len(first.unique(dim=0)) == 7
    assert torch.equal(task.train_batch(4, 3, 5)[0], seen[20:25])
    assert not torch.equal(task.train_batch(0, 4, 5)[0], seen[:5])


def test_recall_scores_the_share_of_wrong_answers():
    task = Recall(windows=40)
    _, targets = task.validation()
    right = torch.nn.functional.one_hot(targets.clamp(min=0), 64).float()
    assert task.judge(right, targets).eq(0).all()
    half = right.clone()
    first = (targets != IGNORED).float().argmax(1)
    half[torch.arange(40), first] = 0.0  # the arg max is now token 0, which is never an answer
    assert task.judge(half, targets).eq(0.25).all()
    assert task.score_unit == "share of wrong answers"
    assert task.unit != task.score_unit


def test_parts_of_recall_share_no_sequence():
    task = Recall()
    train = {tuple(row) for row in task.train_batch(0, 0, task.sequences)[0].tolist()}
    assert len(train) == task.sequences
    assert not train & {tuple(row) for row in task.validation()[0].tolist()}


@pytest.mark.parametrize("sizes", [{"pairs": 0}, {"pairs": 11}, {"tokens": 8, "pairs": 4}, {"windows": 1}])
def test_recall_without_room_is_refused(sizes):
    with pytest.raises(SettingError, match="recall:"):
        Recall(**sizes)


def test_recall_takes_no_data():
    with pytest.raises(SettingError, match="leave out data="):
        Recall.make(data="/text", length=None, windows=None)
    assert Recall.make(data=None, length=None, windows=9) == Recall(windows=9)
