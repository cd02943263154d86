"""Small studies whose every phase can be killed, and what runs in the processes that are.

A whole study leaves a copy of its folder at the beginning of each of its steps, so that each can be gone into
again and again; what an uninterrupted study ends with is what the killed ones are held to.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from evaluators.corpus import load_corpus
from evaluators.supernet.evaluator import FromSupernet
from evaluators.supernet.recipe import SupernetRecipe
from evaluators.supernet.shrinking import SHRINKING, Phase
from evaluators.tasks.recall import Recall
from evaluators.training import fit
from evaluators.training.recipe import Recipe
from hw_profiles.latency import profiler
from hw_profiles.timing.measure import measure_networks
from nas.cli import main
from nas.steps import measure
from nas.steps.base import Context, Step, steps
from nas.study.plan import Plan
from search_spaces.language.serialization import to_json
from search_spaces.language.space import Space
from search_spaces.network.decoder import Decoder
from tests.forks import Fork
from tests.nas.test_crash import TINY, write_text

FEW_PARTS = """
from search_spaces import Decoder, Layer, Space, one_of, repeat
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.short_conv import ShortConv
from search_spaces.blocks.swiglu import SwiGLU

mixer = one_of(Attention(num_heads=2, num_kv_heads=1, head_dim=8), ShortConv())
layer = Layer(sequence_mixer=mixer, channel_mixer=SwiGLU(expansion=1))
space = Space(Decoder(d_model=one_of(16, 24), layers=repeat(layer, (1, 2))), name="tiny")
"""
"""A space whose latency table is measured in seconds."""

EVERYWHERE = "--train-batch 2 --window 32 --validation-windows 8 --scenario cpu,prompt=8,new_tokens=4"
LEARNED = f"{EVERYWHERE} --train-steps 12 -o bits_per_byte -o weight_bytes"
STUDIES: Mapping[str, str] = {
    "trained": f"{LEARNED} --strategy random --trials 12 --finalists 0",
    "search": f"{LEARNED} --strategy random --trials 8 --finalists 3 --finalist-steps 8,16",
    "exact": f"{LEARNED} --trials 6 --finalists 0 --engine exact --setting align=8 --setting points=4"
    " --setting networks=6 --setting windows=4 --setting least_tau=-1",
    "darts": f"{LEARNED} --trials 4 --finalists 0 --engine darts --setting steps=3 --setting align=8"
    " --setting points=2",
    "table": "--scenario cpu,prompt=8,new_tokens=4 -o decode_ms -o weight_bytes --trials 4 --finalists 0"
    " --profile-seconds 1",
}
"""The words of `nas search` after the space and its data, by the name of the study."""


RAY = Path(f"/tmp/nk-{os.getpid()}")
"""Where Ray keeps its sockets, whose paths must be short."""


@dataclass(frozen=True)
class Place:
    """A folder with a space, some text, a store, and the temporary files of its processes."""

    folder: Path

    @property
    def store(self) -> Path:
        return self.folder / "store" / "s.db"

    @property
    def temporary(self) -> Path:
        return self.folder / "tmp"

    @property
    def environment(self) -> dict[str, str]:
        # locks and temporary files of its own: other tests on this machine neither wait nor make wait
        return {
            "COLUMNS": "200",
            "NAS_STORE": str(self.store),
            "NAS_CACHE": str(self.folder / "cache"),
            "TMPDIR": str(self.temporary),
            "RAY_TMPDIR": str(RAY),
        }

    def study(self, name: str) -> Path:
        return self.store.parent / name

    def command(self, *words: str) -> Fork:
        for folder in (self.temporary, RAY):
            folder.mkdir(parents=True, exist_ok=True)
        return Fork(quick_command, words, environment=self.environment)

    def resume(self, name: str, *words: str) -> Fork:
        return self.command("resume", name, "--store", str(self.store), *words)

    def copy_of(self, snapshot: Path) -> Place:
        shutil.rmtree(self.store.parent, ignore_errors=True)
        shutil.copytree(snapshot, self.store.parent)
        return self


def whole_study(folder: Path, name: str) -> Fork:
    """A study from its beginning to its end; a copy of its store is left in `steps` as each step begins."""
    place = Place(folder)
    folder.mkdir(parents=True)
    (folder / "tiny.py").write_text(FEW_PARTS if name == "table" else TINY)
    write_text(folder / "text")
    data = ("--data", str(folder / "text")) if "bits_per_byte" in STUDIES[name] else ()
    words = ("search", str(folder / "tiny.py"), "--name", name, "--store", str(place.store), *data)
    place.temporary.mkdir()
    return Fork(with_snapshots, (*words, *STUDIES[name].split()), str(folder), environment=place.environment)


def with_snapshots(words: tuple[str, ...], folder: str) -> None:
    """The command line, copying the store as each step begins."""
    for name, kind in steps.items():

        def run(self: Step, context: Context, name: str = name, before: Any = kind.run) -> None:
            shutil.copytree(Place(Path(folder)).store.parent, Path(folder, "steps", name))
            before(self, context)

        kind.run = run  # type: ignore[method-assign]
    quick_command(words)


def quick_command(words: tuple[str, ...]) -> None:
    """The command line: a checkpoint every moment, few rounds of timing, two networks at once."""
    tempfile.tempdir = None  # that of this process
    fit.SAVE_SECONDS = 0.05
    measure.TIMED_TOGETHER = 2
    measure_networks.__kwdefaults__["rounds"] = 2
    steps["measure"].wanted = in_the_study_of_steps  # type: ignore[method-assign]
    profiler.FITTED_NETWORKS, profiler.HELD_OUT_NETWORKS = 4, 3
    sys.argv = ["nas", *words]
    main()


def in_the_study_of_steps(self: Step, plan: Plan) -> bool:
    """The front is timed in one of the studies; in the others it would only take time."""
    return plan.finalists > 0


TASK = Recall(tokens=16, length=9, pairs=2, sequences=200, windows=8)
PHASE_STEPS = 10
"""Steps of each phase of `train_in_phases`."""


def train_in_phases(folder: str) -> None:
    """A supernet by progressive shrinking, its four phases equally long, saved after every step."""
    phases = tuple(Phase(phase.name, phase.varies, 1.0) for phase in SHRINKING)
    recipe = Recipe(supernet=SupernetRecipe(phases=phases))
    steps_in_all = PHASE_STEPS * len(phases)
    evaluator = FromSupernet(TASK, to_json(phase_space().root), folder, steps_in_all, 0, 4, recipe)
    evaluator.train(save_seconds=0.0)


def phase_space() -> Space:
    """A space that every phase of shrinking opens further."""
    from search_spaces.blocks.attention import Attention
    from search_spaces.blocks.short_conv import ShortConv
    from search_spaces.blocks.swiglu import SwiGLU
    from search_spaces.language.choices import one_of, repeat
    from search_spaces.network.decoder import Layer

    layer = Layer(
        sequence_mixer=one_of(Attention(num_heads=2, num_kv_heads=one_of(1, 2), head_dim=8), ShortConv()),
        channel_mixer=SwiGLU(expansion=one_of(1, 2)),
    )
    return Space(Decoder(vocab=16, d_model=one_of(16, 24), layers=repeat(layer, (1, 2))), name="phases")


def copy_corpus(data: str, cache: str) -> None:
    """A text into the cache."""
    load_corpus(data, cache=Path(cache))


def write_long_text(folder: Path, megabytes: int) -> None:
    """Some files of text."""
    folder.mkdir()
    dice = Random(1)
    line = " ".join(str(dice.random()) for _ in range(50)) + "\n"
    for number in range(megabytes):
        (folder / f"{number}.txt").write_text(f"{number}\n" + line * (2**20 // len(line)))


def leftovers(place: Place) -> list[str]:
    """What only a run that goes on needs: scratch folders, samples of a profile, temporary files."""
    patterns = (".*.new", ".new-*", "*.partial.json", "*-journal")
    found = [path for pattern in patterns for path in place.folder.rglob(pattern)]
    if place.temporary.exists():
        found += [path for path in place.temporary.iterdir() if not path.name.startswith("nas-locks")]
    return [os.path.relpath(path, place.folder) for path in found if "steps" not in path.parts]
