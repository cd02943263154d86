"""Situations that faults are put into: made once, and copied or changed by the cases that need them."""

from __future__ import annotations

import atexit
import json
import os
import shutil
from collections.abc import Sequence
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from evaluators.supernet.evaluator import FromSupernet
from evaluators.supernet.folder import describe
from evaluators.tasks.recall import Recall
from hw_profiles.fingerprint import fingerprint
from hw_profiles.latency.correction import Accuracy, Correction
from hw_profiles.latency.parts import parts_in
from hw_profiles.latency.records import MeasuredNetwork
from hw_profiles.latency.table import LatencyTable
from hw_profiles.timing.timings import READINGS, Latency
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.choices import one_of, repeat
from search_spaces.language.serialization import to_json
from search_spaces.language.space import Space
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.scenario import Scenario
from tests.forks import Ended, Fork, run_main

SMALL = (
    "-o recall_error -o params --train-steps 3 --train-batch 4 --validation-windows 8"
    " --scenario prompt=8,new_tokens=4"
)
"""Settings under which a study of `tiny_space` takes seconds."""

TINY_SPACE = """
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.choices import one_of, repeat
from search_spaces.language.space import Space
from search_spaces.network.decoder import Decoder, Layer

layer = Layer(sequence_mixer=Attention(head_dim=8), channel_mixer=SwiGLU(expansion=one_of(1, 2, 4)))
space = Space(Decoder(vocab=256, d_model=16, layers=repeat(layer, (1, 2))), name="tiny")
"""
"""A space file; `tiny_space` is the same space."""


def tiny_space() -> Space:
    """Twelve networks of one width."""
    layer = Layer(sequence_mixer=Attention(head_dim=8), channel_mixer=SwiGLU(expansion=one_of(1, 2, 4)))
    return Space(Decoder(vocab=256, d_model=16, layers=repeat(layer, (1, 2))), name="tiny")


@lru_cache
def _tiny_table() -> Any:
    scenario = Scenario()
    accuracy = Accuracy(1, mape=0.05, rms=0.06, bias=0.01, tau=0.9, tau_low=0.5, tau_high=1.0, reach=2.0)
    layer = Layer(sequence_mixer=Attention(head_dim=8), channel_mixer=SwiGLU(expansion=2))
    networks = tuple(
        MeasuredNetwork(
            Decoder(vocab=256, d_model=16, layers=(layer,) * depth),
            depth == 2,
            dict.fromkeys(READINGS, Latency((3.0 + depth, 3.1 + depth, 3.2 + depth))),
        )
        for depth in (1, 2)
    )
    table = LatencyTable(
        space_name="tiny",
        space_digest=tiny_space().digest,
        scenario=scenario,
        fingerprint=fingerprint(scenario),
        entries={
            part: dict.fromkeys(READINGS, Latency((float(i), i + 0.1, i + 0.2), (i + 0.3,)))
            for i, part in enumerate(parts_in(tiny_space()), start=1)
        },
        networks=networks,
        corrections=dict.fromkeys(READINGS, Correction(1.0, 0.5, 0.1, {"Attention": 1.1}, {"16": 0.9})),
        accuracies=dict.fromkeys(READINGS, accuracy),
    )
    return json.loads(json.dumps(table.to_plain()))


def tiny_table(changes: Sequence[tuple[str, Any]] = ()) -> Any:
    """A whole latency table of `tiny_space` as plain values, with other values at some dotted places."""
    return changed(_tiny_table(), changes)


def changed(plain: Any, changes: Sequence[tuple[str, Any]]) -> Any:
    """Plain values with others at some places, `entries.0.decode_ms`; None there removes what is there."""
    plain = deepcopy(plain)
    for place, value in changes:
        *way, last = (int(name) if name.isdigit() else name for name in place.split("."))
        inside = plain
        for name in way:
            inside = inside[name]
        if value is None:
            del inside[last]
        else:
            inside[last] = value
    return plain


def run_in(folder: Path, *words: str) -> Ended:
    """The command line with these words, in this folder."""
    ended = Fork(_run_in, str(folder), words).wait(timeout=300)
    assert ended.returncode == 0, ended
    return ended


def _run_in(folder: str, words: tuple[str, ...]) -> None:
    os.chdir(folder)
    run_main(words)


@lru_cache
def trained_study(seed: int = 0) -> Path:
    """A folder with a study `a` of four candidates, a supernet of its own, and a finalist."""
    folder = Path(mkdtemp(prefix="nas-study-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder / "tiny.py").write_text(TINY_SPACE)
    more = f"--trials 4 --strategy random --finalists 1 --finalist-steps 2 --seed {seed}"
    run_in(folder, "search", "tiny.py", "--name", "a", *SMALL.split(), *more.split())
    run_in(folder, "resume", "a")  # what the last step left to write is written
    return folder


@lru_cache
def trained_supernet(seed: int = 0, width: int = 16) -> Path:
    """The folder of a supernet of `tiny_space`, or of another width, whose training has ended."""
    folder = Path(mkdtemp(prefix="nas-supernet-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    layer = Layer(sequence_mixer=Attention(head_dim=8), channel_mixer=SwiGLU(expansion=one_of(1, 2, 4)))
    space = Space(Decoder(vocab=256, d_model=width, layers=repeat(layer, (1, 2))), name="tiny")
    task = Recall(windows=8)
    evaluator = FromSupernet(task, to_json(space.root), str(folder), 2, seed, 2, space_name="tiny")
    describe(evaluator, space)
    evaluator.train()
    return folder
