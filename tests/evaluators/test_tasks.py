import math
import pickle
from itertools import pairwise

import pytest
import torch

from evaluators.tasks.base import tasks
from evaluators.tasks.language import ByteLanguageModelling
from search_spaces.errors import DataError, SettingError
from tests.evaluators import tiny


@pytest.fixture
def task(tmp_path):
    return tiny.task(tmp_path)


def test_language_is_registered():
    assert tasks["language"] is ByteLanguageModelling


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
    full = ByteLanguageModelling(task.corpus_folder, 16, (len(text) - 1) // 16)
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
        ByteLanguageModelling(task.corpus_folder, 1000, 100).validation()
    with pytest.raises(DataError, match=r"for training, and these windows need 1,000,001"):
        ByteLanguageModelling(task.corpus_folder, 1_000_000).train_batch(0, 0, 1)
    with pytest.raises(SettingError, match="windows at least 2"):
        ByteLanguageModelling(task.corpus_folder, windows=1)
