"""Whether many processes learn what one does, what each of them holds, and what recomputing layers costs.

    python -m benchmarks.training.parallel                 # all sections, on 2 and on 4 processes (gloo)
    python -m benchmarks.training.parallel --section bytes

Sections: `losses`, the largest difference from the losses of one process with the same pieces, over all
steps, for a transformer and a hybrid of Mamba-2, a gated delta net and experts, in float64 and float32;
`bytes`, of weights, gradients, optimizer states and gathered weights of the process that holds most, beside
what was predicted; `recompute`, bytes that autograd keeps and seconds of a step (median of rounds in which
the budgets take turns); `resume`, one training on 2, then 1, then 4 processes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch

from benchmarks.common import keep, show_plainly
from evaluators.tasks.recall import Recall
from evaluators.training.distributed import OnStep, train_distributed
from evaluators.training.parallel import memory
from evaluators.training.parallel import run as runs
from evaluators.training.parallel.course import Course
from evaluators.training.parallel.grid import Grid, make_grid
from evaluators.training.parallel.parallel import Parallel
from evaluators.training.parallel.training import ParallelTraining
from evaluators.training.process_group import ProcessGroup
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.gated_delta_net import GatedDeltaNet
from search_spaces.blocks.mamba2 import Mamba2
from search_spaces.blocks.moe import MoE
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.serialization import to_json
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.model import build

COMMAND = "python -m benchmarks.training.parallel"
STEPS, EARLY, BATCH, ROUNDS = 8, 5, 16, 7
LIMITS = {"F64": 1e-9, "F32": 1e-5}

FORMS: dict[int, dict[str, int]] = {
    2: {
        "dp=2": 1,
        "dp=2,dp.zero=1": 1,
        "fsdp=2,fsdp.reshard=false": 1,
        "fsdp=2": 1,
        "tp=2": 2,
        "pp=2,pp.schedule=gpipe": 2,
        "pp=2": 2,
    },
    4: {
        "dp=4": 1,
        "dp=4,dp.zero=1": 1,
        "fsdp=4,fsdp.reshard=false": 1,
        "fsdp=4": 1,
        "tp=4": 4,
        "pp=4,pp.schedule=gpipe": 4,
        "pp=4": 4,
        "dp=2,fsdp=2": 1,
        "dp=2,tp=2": 2,
        "fsdp=2,tp=2": 2,
        "dp=2,pp=2": 2,
        "pp=2,tp=2": 4,
    },
}
"""Methods by processes, with the pieces in which they read a batch: as many in all as there are processes."""


def networks(width: int) -> dict[str, Decoder]:
    """A transformer and a hybrid of four layers."""
    head = width // 4
    swiglu = SwiGLU(expansion=2)
    attention = Layer(
        sequence_mixer=Attention(num_heads=4, num_kv_heads=4, head_dim=head), channel_mixer=swiglu
    )
    mamba = Layer(
        sequence_mixer=Mamba2(num_heads=4, head_dim=head, state_dim=16),
        channel_mixer=MoE(num_experts=4, top_k=2, expansion=1),
    )
    delta = Layer(
        sequence_mixer=GatedDeltaNet(num_heads=4, head_dim=head, state_dim=16), channel_mixer=swiglu
    )
    return {
        "transformer": Decoder(vocab=256, d_model=width, layers=(attention,) * 4),
        "hybrid": Decoder(vocab=256, d_model=width, layers=(mamba, delta, attention, mamba)),
    }


def course(spec: Decoder, folder: Path, parallel: str = "", **settings: Any) -> Course:
    """A training that begins with the initial weights of seed 0."""
    given = {"task": Recall(), "steps": STEPS, "batch": BATCH, "origin": "seed 0", **settings}
    made = Course(spec=to_json(spec), folder=str(folder), parallel=Parallel.parse(parallel), **given)
    runs.begin(made, build(spec, seed=0).to(made.torch_dtype))
    return made


def losses_alone(made: Course) -> list[float]:
    """The losses of a course in this process."""
    losses: list[float] = []
    runs.run(made, on_step=lambda step, loss: losses.append(loss))
    return losses


def losses_together(courses: Sequence[Course], count: int) -> list[list[float]]:
    """The losses of courses of `count` processes each, which start once."""
    told: list[float] = []
    train = partial(_one_by_one, tuple(courses))
    train_distributed(train, count, on_step=lambda step, loss: told.append(loss), share_cpus=True)
    return [told[i : i + STEPS] for i in range(0, len(told), STEPS)]


def _one_by_one(courses: tuple[Course, ...], on_step: OnStep | None, *, process_group: ProcessGroup) -> None:
    for made in courses:
        runs.train_here(made, 0, on_step, process_group=process_group)


@dataclass(frozen=True)
class Reordered(Recall):
    """The same batches, whose four pieces are read in the reverse order: their gradients add up otherwise."""

    def train_batch(self, step: int, seed: int, batch: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens and targets of a step."""
        tokens, targets = super().train_batch(step, seed, batch)
        return torch.cat(tokens.chunk(4)[::-1]), torch.cat(targets.chunk(4)[::-1])


def losses(folder: Path) -> list[dict[str, Any]]:
    """The largest relative difference of a loss from that of one process, for every method.

    In float32 sums in another order differ, and so does what a router chooses after some steps: `reordered`
    is how far one process is from itself when it reads its pieces in the reverse order.
    """
    rows = []
    for (count, forms), (name, spec) in product(FORMS.items(), networks(32).items()):
        worst: dict[str, dict[str, float]] = {text: {} for text in forms}
        for dtype in LIMITS:
            where = folder / f"{count}-{name}-{dtype}"
            alone = losses_alone(course(spec, where / "alone", accumulate=count, dtype=dtype))
            made = [course(spec, where / t, t, accumulate=n, dtype=dtype) for t, n in forms.items()]
            for text, found in zip(forms, losses_together(made, count), strict=True):
                worst[text][f"{dtype} {EARLY} steps"] = difference(found[:EARLY], alone[:EARLY])
                worst[text][f"{dtype} {STEPS} steps"] = difference(found, alone)
        again = losses_alone(course(spec, where / "order", accumulate=4, dtype="F32", task=Reordered()))
        straight = losses_alone(course(spec, where / "straight", accumulate=4, dtype="F32"))
        for text, found_by in worst.items():
            within = all(found_by[f"{dtype} {EARLY} steps"] <= limit for dtype, limit in LIMITS.items())
            row = {"processes": count, "network": name, "parallel": text, **found_by, "within": within}
            rows.append({**row, "F32 reordered": difference(again, straight)})
    return rows


def difference(found: Sequence[float], expected: Sequence[float]) -> float:
    """The largest relative difference of two losses."""
    return max(abs(a / b - 1) for a, b in zip(found, expected, strict=True))


def held_bytes(folder: Path) -> list[dict[str, Any]]:
    """What a process holds, measured and predicted, of a network of a width of 128."""
    rows = []
    spec = networks(128)["hybrid"]
    for count, forms in FORMS.items():
        courses = {text: course(spec, folder / text, text, accumulate=n) for text, n in forms.items()}
        out = folder / f"held-{count}"
        out.mkdir()
        train_distributed(partial(_measure, courses, str(out)), count, share_cpus=True)
        for text, made in courses.items():
            ranks = [json.loads((out / f"{text}-{rank}.json").read_text()) for rank in range(count)]
            trace = memory.trace_of(made)
            predicted = [memory.held_by(made, trace, rank) for rank in range(count)]
            row: dict[str, Any] = {"processes": count, "parallel": text}
            for kind in ("weights", "gradients", "optimizer", "gathered"):
                row[kind] = max(rank[kind] for rank in ranks)
                row[f"{kind} predicted"] = max(getattr(held, kind) for held in predicted)
            rows.append(row)
    return rows


def _measure(
    courses: dict[str, Course], out: str, on_step: OnStep | None, *, process_group: ProcessGroup
) -> None:
    for text, made in courses.items():
        grid = make_grid(made.parallel.sizes, device="cpu")
        training = runs.opened(made, grid, 0)
        gathered = _learn_watched(training)
        held = {**training.held(), "gathered": gathered}
        Path(out, f"{text}-{process_group.rank}.json").write_text(json.dumps(held))
        grid.wait()


def _learn_watched(training: ParallelTraining) -> int:
    """The most bytes of whole weights that are there while a step computes, where FSDP gathers them."""
    if training.grid.size("fsdp") == 1:
        training.learn()
        return 0
    modules: list[Any] = [module for module in training.module.modules() if hasattr(module, "unshard")]
    groups = [module._get_fsdp_state()._fsdp_param_group for module in modules]
    most = 0

    def look(x: torch.Tensor) -> torch.Tensor:
        nonlocal most
        most = max(most, sum(_gathered(group) for group in groups if group is not None))
        return x

    with torch.autograd.graph.saved_tensors_hooks(look, look):
        training.learn()
    return most


def _gathered(group: Any) -> int:
    """Bytes of the gathered parameters of one unit of FSDP that are there now."""
    found = 0
    for parameter in group.fsdp_params:
        whole = getattr(parameter, "_unsharded_param", None)
        if whole is not None:
            found += whole.untyped_storage().nbytes()
    return found


def recompute(folder: Path) -> list[dict[str, Any]]:
    """What is kept and how long a step takes, by the budget of activations."""
    rows = []
    for name, spec in networks(128).items():
        made = course(spec, folder / name, steps=1000)
        trace = memory.trace_of(made)
        most = memory.most_held(made, trace).activations
        budgets = {"none": memory.UNLIMITED, "three quarters": most * 3 // 4, "all": 0}
        courses = {
            budget: replace(made, recomputed=memory.recomputed_within(made, trace, bytes_))
            for budget, bytes_ in budgets.items()
        }
        trainings = {budget: runs.opened(each, Grid(), 0) for budget, each in courses.items()}
        seconds = in_turns({budget: training.learn for budget, training in trainings.items()})
        for budget, training in trainings.items():
            kept = kept_bytes(training, courses[budget])
            again = max((trace[str(n)].of(BATCH) for n in courses[budget].recomputed), default=0)
            rows.append(
                {
                    "network": name,
                    "budget": budget,
                    "layers": len(courses[budget].recomputed),
                    "kept": kept,
                    "kept of none": kept / kept_bytes(trainings["none"], courses["none"]),
                    "predicted": memory.most_held(courses[budget], trace).activations - again,
                    "for one layer": again,
                    "step s": seconds[budget],
                    "time of none": seconds[budget] / seconds["none"],
                }
            )
    return rows


def in_turns(calls: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """The median seconds of calls that take turns, so that what else runs here slows all of them."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(ROUNDS + 1):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            if number:
                taken[name].append(time.perf_counter() - began)
    return {name: statistics.median(times) for name, times in taken.items()}


def kept_bytes(training: ParallelTraining, made: Course) -> int:
    """Bytes of tensors that autograd keeps until the backward pass, without weights."""
    own = {weight.untyped_storage().data_ptr() for weight in training.parameters.values()}
    seen: dict[int, int] = {}
    alive = []

    def pack(x: torch.Tensor) -> torch.Tensor:
        storage = x.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = storage.nbytes()
            alive.append(x)
        return x

    tokens, _ = made.task.train_batch(0, 0, made.batch)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        training.module(tokens)
    return sum(seen.values())


def resume(folder: Path) -> list[dict[str, Any]]:
    """One training on 2, 1 and 4 processes in turn, against one that never stopped."""
    rows = []
    for name, spec in networks(32).items():
        for dtype, limit in LIMITS.items():
            whole = losses_alone(
                course(spec, folder / f"{name}-{dtype}-whole", accumulate=4, steps=6, dtype=dtype)
            )
            made = course(
                spec, folder / f"{name}-{dtype}", "dp=2,dp.zero=1", accumulate=2, steps=2, dtype=dtype
            )
            found: list[float] = []
            for steps, text, pieces in ((2, "dp=2,dp.zero=1", 2), (4, "", 4), (6, "fsdp=2,tp=2", 2)):
                part = replace(made, steps=steps, parallel=Parallel.parse(text), accumulate=pieces)
                runs.run(part, on_step=partial(_note, found))
            worst = difference(found, whole)
            rows.append(
                {
                    "network": name,
                    "dtype": dtype,
                    "processes": "2, 1, 4",
                    "difference": worst,
                    "within": worst <= limit,
                }
            )
    return rows


def _note(found: list[float], step: int, loss: float) -> None:
    found.append(loss)


SECTIONS = {"losses": losses, "bytes": held_bytes, "recompute": recompute, "resume": resume}


def main() -> None:
    """Run the sections that are asked for; keep the results where that is all of them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--section", choices=SECTIONS, help="only this one; nothing is kept")
    wanted = parser.parse_args().section
    results = {}
    for name, section in SECTIONS.items():
        if wanted in (None, name):
            with tempfile.TemporaryDirectory() as folder:
                results[name] = section(Path(folder))
            show_plainly(name, results[name])
    if wanted is None:
        rows = [{"section": name, **row} for name, section_rows in results.items() for row in section_rows]
        keep("training_parallel", COMMAND, rows)


if __name__ == "__main__":
    main()
