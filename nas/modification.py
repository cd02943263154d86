"""Modifiers one after the other, from a network to an exported folder that says what it went through.

    nas.modify("winner", [Prune(pattern="2:4"), Quantize(bits=4)], "small")

After each modifier the folder OUT holds the network that it made, whole at any moment, and until the last one
is done marked as unfinished, so that nobody takes it for what comes out. It has a record of each modifier in
`config.json` (`about.modified`): its settings, and every figure before and after, on the same validation
windows, with its error. So a list that was stopped goes on behind the last modifier that is on record, with
the same words; a training inside a modifier goes on from its checkpoints in `OUT/training`.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Any

import torch

from evaluators.compression.adapters import FILE as ADAPTER
from evaluators.compression.adapters import Adapter, write_adapter
from evaluators.scoring.base import Score, paired_difference
from evaluators.scoring.windows import state_segment, window_losses
from evaluators.tasks.base import Task
from evaluators.training.network_training import rounded_model
from evaluators.training.parallel.course import CHECKPOINTS
from evaluators.training.trainable import weights_digest
from foundation.errors import EvaluationFailed, FileError, NasError, NoFile, SettingError
from foundation.files import read_json, real_path, write_atomically
from nas.modifiers.base import Estimate, Modifier, Work
from nas.modifiers.lists import line_of, modifiers_of
from nas.modifiers.lists import read_modifiers as read_modifiers
from nas.modifiers.settings import ModificationSettings as ModificationSettings
from nas.progress import Progress
from nas.study.model_code import load
from nas.study.task import check_tokens, doubt_of_tokens
from nas.training.start import Start, start_of
from search_spaces.devices import require_here
from search_spaces.network.model import Model
from search_spaces.network.model_files import check_free, mark_unfinished, read_config, save_model
from search_spaces.network.weight_formats import weight_bits
from search_spaces.scenario import Scenario

MODIFIED = "modified"
"""The entry of `about` that holds a record of each modifier."""

BEGUN = "modifier.json"
"""Beside the checkpoints of a modifier: which it is, with its settings."""

PLACE = "place"
"""There, too: how many modifiers were on record before it."""

ORIGIN = "modified_from"
"""The entry that names the weights, the text and the seed that a list of modifiers began with."""


@dataclass(frozen=True)
class Figures:
    """What is measured of a network: its score, window by window, and its sizes."""

    score: Score
    params: int
    nonzero: int
    weight_bytes: int

    def to_plain(self, name: str) -> dict[str, Any]:
        """As a record holds them; `name` is that of the score."""
        return {
            name: {"value": self.score.value, "error": self.score.standard_error},
            "params": self.params,
            "nonzero": self.nonzero,
            "weight_bytes": self.weight_bytes,
        }


@dataclass(frozen=True)
class Modified:
    """What one modifier did; `difference` is the score after it less that before, and its standard error."""

    modifier: Modifier
    before: dict[str, Any]
    after: dict[str, Any]
    difference: tuple[float, float]
    notes: Mapping[str, Any]
    resumed: bool = False
    """Whether it was done by an earlier run."""


def modify(
    begin: Start | str | Path,
    wanted: Sequence[Modifier | str],
    output: str | Path,
    settings: ModificationSettings | None = None,
    *,
    task: Task | None = None,
    force: bool = False,
    progress: Progress | None = None,
    again: str = "the same call of nas.modify",
) -> list[Modified]:
    """Apply modifiers to a network, one after the other, and export what comes out; what each did.

    `begin` is an exported folder, `zoo:NAME`, or a start that was made of something else. A `task` that is
    open is taken in place of that of the settings. With `force`, another model that was exported into the
    folder is replaced. Until the last modifier is done, whoever loads the folder is told that it is
    unfinished, and that `again` goes on with it.

    Raises:
        SettingError: a modifier is left open or cannot be applied, the folder holds something else, or the
            device is not here.
        DataError: the text cannot be used.
        EvaluationFailed: a figure is not finite.
        FileError: a file cannot be read or written.
    """
    chosen, settings = modifiers_of(wanted), settings or ModificationSettings()
    require_here(settings.train_on)
    start = begin if isinstance(begin, Start) else start_of(str(begin), seed=settings.seed)
    estimates(start, chosen)  # refuses at once what could not be applied at the end
    for modifier in chosen:
        if real_path(output) in map(real_path, modifier.folders):
            raise SettingError(f"{modifier.name}: {output} is read by it: name another folder to write")
    task = task or settings.make_task()
    check_tokens(start.tokenizer, task)
    if start.model.spec.vocab < task.vocab:
        raise SettingError(
            f"the network has {start.model.spec.vocab:,} tokens, and {task.name} needs {task.vocab:,}"
        )
    start = replace(start, model=start.model.to(settings.train_on))
    run = _Run(start, task, settings.seed, Path(output), progress or Progress())
    if doubt := doubt_of_tokens(start.tokenizer, start.model.spec.vocab, task):
        run.progress.say(doubt)
    done = run.begin(chosen, again, force=force)
    try:
        for modifier in chosen[len(done) :]:
            done.append(run.apply(modifier, is_last=len(done) + 1 == len(chosen)))
    except (SettingError, EvaluationFailed):
        if not done:
            run.undo()
        raise
    return done


def estimates(
    start: Start, wanted: Sequence[Modifier | str], scenario: Scenario | None = None
) -> list[tuple[Modifier, Estimate]]:
    """What each modifier of a list will do, known before anything is run.

    Raises:
        SettingError: one cannot be applied to what those before it make.
    """
    spec, found = start.model.spec, []
    for modifier in modifiers_of(wanted):
        try:
            found.append((modifier, modifier.estimate(spec, scenario or Scenario())))
            spec = modifier.changed(spec)
        except NasError as error:
            text = str(error)
            raise SettingError(text if modifier.name in text else f"{modifier.name}: {text}") from None
    return found


def is_begun(folder: Path) -> bool:
    """Whether a folder holds what a list of modifiers has made, which may go on there."""
    try:
        return ORIGIN in read_config(folder).get("about", {})
    except (SettingError, FileError):
        return False


@torch.no_grad()
def figures_of(model: Model, task: Task) -> Figures:
    """What is measured of a network whose weights have the values that they are exported with."""
    losses = window_losses(model, task, segment=state_segment(model.spec), device=model.embedding.device)
    parameters = list(model.parameters())
    return Figures(
        Score.of(losses.tolist()),
        sum(weight.numel() for weight in parameters),
        sum(int(weight.count_nonzero()) for weight in parameters),
        model.spec.cost(Scenario()).weight_bytes,
    )


class _Run:
    """One list of modifiers on its way: where it began, and the folder that holds how far it has come."""

    def __init__(self, start: Start, task: Task, seed: int, folder: Path, progress: Progress) -> None:
        self.start, self.task, self.seed, self.folder = start, task, seed, folder
        self.progress = progress
        self.exact = "imported_from" in start.about and _needs_32_bits(start.model)
        self.model: Model | None = None  # what it begins with is made of the start where it is needed
        self.figures = figures_of(self._first(), task)
        self.unfinished = ""
        self.records: list[Any] = list(start.about.get(MODIFIED, ()))
        self.known = len(self.records)
        self.base = weights_digest(dict(start.model.named_parameters()))
        self.origin = {
            "weights": self.base,
            "task": task.digest,
            "seed": seed,
        }

    @property
    def checkpoints(self) -> Path:
        """Where a training inside a modifier keeps its checkpoints."""
        return self.folder / CHECKPOINTS

    @property
    def replaced(self) -> Path:
        """Where a model that is to be replaced lies until the first modifier is done."""
        folder = Path(os.path.abspath(self.folder))
        return folder.with_name(f".{folder.name}.replaced")

    def begin(self, chosen: Sequence[Modifier], again: str, *, force: bool) -> list[Modified]:
        """Prepare the folder, or go on in it: what an earlier run did of this list.

        Raises:
            SettingError: the folder holds something else.
        """
        listed = ", then ".join(map(line_of, chosen))
        self.unfinished = f"{listed} has not come to its end there, and goes on with {again}"
        if not force and (done := self._done(chosen)) is not None:
            self._check_begun(chosen[len(done) :])
            if done:
                device = str(self.start.model.embedding.device)
                # this very list has written it
                self.model = load(self.folder, device=device, trust_code=True, unfinished=True)
                self.figures = figures_of(self.model, self.task)
            mark_unfinished(self.folder, self.unfinished if len(done) < len(chosen) else "")
            return done
        check_free(self.folder, force=force)
        self._set_aside()
        self._save()
        return []

    def undo(self) -> None:
        """Leave the folder as it was: what the list began with would look like what came out."""
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.replaced.exists():
            os.rename(self.replaced, self.folder)

    def apply(self, modifier: Modifier, *, is_last: bool) -> Modified:
        """Do one modifier, measure what comes out, and export it with its record."""
        before, began = self.figures, monotonic()
        begun = {**modifier.to_plain(), PLACE: len(self.records)}
        write_atomically(self.checkpoints / BEGUN, to_json(begun))
        work = Work(self.task, self._first, self.seed, self.checkpoints, self.progress)
        model, self.model = self.model or self._first(), None  # given away, so that its memory can go
        changed = modifier.modify(model, work)
        self.model = self._as_stored(changed.model)
        self.figures = figures_of(self.model, self.task)
        difference = paired_difference(self.figures.score.samples, before.score.samples)
        name = self.task.score_name
        record = {
            "modifier": modifier.to_plain(),
            "before": before.to_plain(name),
            "after": self.figures.to_plain(name),
            "difference": dict(zip(("value", "error"), difference, strict=True)),
            "notes": dict(changed.notes),
            "seconds": round(monotonic() - began, 3),
        }
        first = len(self.records) == self.known
        self.records.append(record)
        self.unfinished = "" if is_last else self.unfinished
        self._save(changed.adapter if first else None)
        for passed in (self.checkpoints, self.replaced):
            shutil.rmtree(passed, ignore_errors=True)
        return _modified(modifier, record)

    def _set_aside(self) -> None:
        """Keep the model that is to be replaced; what a run that was killed began with is none."""
        if self.replaced.exists():
            shutil.rmtree(self.folder, ignore_errors=True)
        elif self.folder.exists():
            try:
                os.rename(self.folder, self.replaced)
            except OSError as error:
                raise FileError(f"cannot replace {self.folder}: {error.strerror}") from None

    def _done(self, chosen: Sequence[Modifier]) -> list[Modified] | None:
        """What the folder has of this very list; None where it has something else, or nothing."""
        try:
            about = read_config(self.folder).get("about", {})
        except SettingError:
            return None
        records = about.get(MODIFIED)
        if about.get(ORIGIN) != self.origin or not isinstance(records, list):
            return None
        plain = [to_json(modifier.to_plain()) for modifier in chosen]
        own = records[self.known :]
        if [to_json(record["modifier"]) for record in own] != plain[: len(own)]:
            return None
        self.records = records
        return [
            _modified(modifier, record, resumed=True) for modifier, record in zip(chosen, own, strict=False)
        ]

    def _check_begun(self, left: Sequence[Modifier]) -> None:
        """Refuse to leave what a killed run has trained for a modifier with other settings."""
        try:
            begun = read_json(self.checkpoints / BEGUN)
        except NoFile:
            return
        if begun.get(PLACE, len(self.records)) < len(self.records):  # killed when it was on record already
            shutil.rmtree(self.checkpoints, ignore_errors=True)
            return
        if left and (other := differences(begun, left[0].to_plain())):
            raise SettingError(
                f"{self.folder} holds the beginning of another {begun.get('name')}: {other}; give what it was"
                " begun with to go on, or replace it (--force)"
            )

    def _save(self, adapter: Adapter | None = None) -> None:
        """Export the network as it is, with all records, and what was learned apart from its weights.

        An adapter comes first: where this is killed between the two, it is written again.
        """
        if adapter is None:
            Path(self.folder, ADAPTER).unlink(missing_ok=True)
        else:
            write_adapter(self.folder, replace(adapter, base=self.base))
        about = {
            **self.start.about,
            ORIGIN: self.origin,
            MODIFIED: self.records,
            self.task.score_name: self.figures.score.value,
        }
        save_model(
            self.model or self._first(),
            self.folder,
            about,
            force=True,
            code=self.start.code,
            tokenizer=self.start.tokenizer,
            exact=self.exact,
            unfinished=self.unfinished,
        )

    def _first(self) -> Model:
        """The network that the list begins with, a copy."""
        return self._as_stored(self.start.model)

    def _as_stored(self, model: Model) -> Model:
        """A copy with the values that are exported."""
        return deepcopy(model).eval() if self.exact else rounded_model(model).eval()


def to_json(plain: Any) -> str:
    """Plain values as one text, to be compared."""
    return json.dumps(plain, sort_keys=True)


def differences(begun: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """In which values a modifier on record is another one than what is wanted; empty where in none."""
    if begun.get("name") != wanted["name"]:
        return f"{wanted['name']} is wanted"
    names = [name for name in wanted if to_json(begun.get(name)) != to_json(wanted[name])]
    return ", ".join(f"{name} was {begun.get(name)!r}, and is {wanted[name]!r}" for name in names)


def _modified(modifier: Modifier, record: Mapping[str, Any], *, resumed: bool = False) -> Modified:
    difference = (record["difference"]["value"], record["difference"]["error"])
    return Modified(modifier, record["before"], record["after"], difference, record["notes"], resumed)


def _needs_32_bits(model: Model) -> bool:
    """Whether bfloat16 does not hold some matrix of 16 bits as it is."""
    formats = weight_bits(model)
    return any(
        (stored := formats[name]) is not None
        and stored.bits == 16
        and not torch.equal(weight.to(torch.bfloat16).to(weight.dtype), weight)
        for name, weight in model.named_parameters()
    )
