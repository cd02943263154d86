"""Text that a network of a study writes, asked for by a page: one at a time, in the background, bounded.

The text is that of `nas export` and `nas generate` with the same prompt. Nothing is trained for it: where the
checkpoint of a training is gone, it says so. A study whose space is defined by a source of its own is not
run from here, because that would run this source.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field

import torch

from dashboards.app.live_store import key_of
from evaluators.tasks.base import Task
from evaluators.tokens.speech import tokenizer_of
from evaluators.tokens.vocabulary import BYTES, ByteVocabulary, Vocabulary
from foundation.errors import NasError, SettingError
from nas.store import Store
from nas.study.export import best_weights
from nas.study.study import Study
from nas.study.task import task_of
from nas.study.trial import Trial
from search_spaces.network.generation import Generation
from search_spaces.network.model_files import TOKENIZER

TOKENS, SECONDS = 200, 30.0
"""A text ends after so many tokens, or so much time."""

LONGEST_PROMPT = 200
KEPT = 16
"""Texts that are kept."""

Key = tuple[str, int, str]


@dataclass
class Sample:
    """One text, as far as it is written; `weights` says whose it is, `ended` that no more comes."""

    began: float = field(default_factory=time.monotonic)
    prompt: str = ""
    text: str = ""
    weights: str = ""
    error: str = ""
    ended: bool = False


class Samples:
    """The texts that were asked for over one store."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._made: OrderedDict[Key, Sample] = OrderedDict()
        self._busy, self._lock = threading.Lock(), threading.Lock()

    def of(self, study: Study, trial: Trial, prompt: str, *, start: bool) -> Sample | None:
        """The text of a network after a prompt; with `start` it is begun, unless it is there.

        Raises:
            SettingError: there is no prompt, it is too long, or it would run the study's own source.
        """
        if not prompt or len(prompt) > LONGEST_PROMPT:
            raise SettingError(f"a prompt has from 1 to {LONGEST_PROMPT} characters, got {len(prompt)}")
        if study.source is not None:
            raise SettingError("its space is defined by a source of its own, which only the command runs")
        key = (key_of(study.record), trial.number, prompt)
        with self._lock:
            made = self._made.get(key)
            if start and (made is None or made.error):
                made = self._made[key] = Sample(prompt=prompt)
                threading.Thread(target=self._run, args=(made, key), name="sample", daemon=True).start()
                while len(self._made) > KEPT:
                    self._made.popitem(last=False)
            return made

    def _run(self, sample: Sample, key: Key) -> None:
        error = "it ended with an error, which the terminal of the dashboard shows"
        try:
            with self._busy, Store(self._url, read_only=True) as store:
                study = Study(store, store.study(key[0].partition("@")[0]))
                for trial in store.trials_numbered(study.record, [key[1]], on_unreadable=lambda lost: None):
                    _write(sample, study, trial)
            error = ""
        except NasError as found:
            error = str(found)
        finally:
            sample.error, sample.ended = error, True


def _write(sample: Sample, study: Study, trial: Trial) -> None:
    """The text of a trial's network, token by token."""
    task = task_of(study)
    vocabulary = vocabulary_of(task, study.spec(trial).vocab)
    tokens = vocabulary.prompt(sample.prompt.encode())
    if not tokens:
        raise SettingError("the prompt has no tokens in the vocabulary of the network")
    model, about = best_weights(study, trial, task, on_step=_refuse)
    sample.weights = str(about.get("weights", ""))
    device = model.embedding.device
    how, stream = Generation(new_tokens=TOKENS), vocabulary.stream(tokens)
    dice, end = torch.Generator(device=device).manual_seed(how.seed), time.monotonic() + SECONDS
    with torch.no_grad():
        for token in model.stream(torch.tensor([tokens], device=device), how, dice):
            sample.text += stream.push(int(token))
            if time.monotonic() > end:
                break
    sample.text += stream.end()


def vocabulary_of(task: Task, tokens: int) -> Vocabulary:
    """What the tokens of a study's networks mean.

    Raises:
        SettingError: the study has learned no text, or its tokenizer does not fit.
    """
    if task.about() is None:
        raise SettingError(f"task {task.name} is no text, so its networks write none")
    text = task.tokenizer_json()
    if text is not None:
        return tokenizer_of(text, TOKENIZER, tokens)
    if tokens != BYTES:
        raise SettingError(
            f"its networks have {tokens:,} tokens that nothing explains; of {BYTES} they are bytes"
        )
    return ByteVocabulary()


def _refuse(step: int, loss: float) -> None:
    raise SettingError("the checkpoint of its training was not kept; `nas export` trains it again")
