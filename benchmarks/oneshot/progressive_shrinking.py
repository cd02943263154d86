"""Once-for-all: does one training rank and measure the networks of a space, and what does it cost?

    python -m benchmarks.oneshot.progressive_shrinking --device cuda:0 --processes 14 --out shrinking.json

Byte-level language modelling on the interpreter's own library, in two spaces: `hybrids` is the ready-made
space `laptop` (six mixers, experts, bits, sizes), `sizes` has one kind of block and is elastic in heads,
hidden channels, depth and width, which is the setting of the paper.

1. Supernets are trained for equal steps: progressive shrinking and the plain sandwich. At five sizes, from
   the smallest to the largest, each over the same networks, which one is better?
2. Random networks are trained from scratch by the project's own recipe, each for as many tokens as each
   network of a step of the supernet has read; `--supernet-steps` gives the supernet others, such as take the
   time of the twelve together. How far are the first twelve, read from the supernet, from themselves trained
   alone? For hybrids also: Kendall's tau between supernet and scratch, its interval by the
   bootstrap over networks; tau between two seeds of scratch, which no proxy can be expected to pass; and a
   third supernet that favours the twelve in its last phase, as a training that goes on after a search would
   favour its front. With `--tuned` the same of networks that are taken out of the supernet and trained alone
   for a moment, as by `nas search --then finetune`.
3. What a step costs (alone on the machine, before anything else runs): the supernet's, the forward and
   backward passes of its own subnets, the largest subnet trained alone; tokens per second, peak memory; how
   many operations it takes; and how long it takes to score 2,000 candidates.

Trainings run in parallel processes; figures of time come from the first part of the run, when nothing else
does.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.common import RESULTS, provenance
from evaluators.scoring.scratch import FromScratch
from evaluators.scoring.windows import state_segment, window_losses
from evaluators.supernet.recipe import SupernetRecipe
from evaluators.supernet.sandwich import Sandwich
from evaluators.supernet.shrinking import SHRINKING, WHOLE, narrowed
from evaluators.supernet.training import SupernetTraining
from evaluators.tasks.language import LanguageModelling
from evaluators.training.execution import Execution
from evaluators.training.fit import fit
from evaluators.training.network_training import NetworkTraining
from evaluators.training.recipe import Recipe
from evaluators.training.regions import token_loss
from foundation.statistics import tau_with_interval
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.choices import one_of, repeat
from search_spaces.language.genotype import Label
from search_spaces.language.space import Space
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.model import build
from search_spaces.scenario import Scenario
from search_spaces.spaces.laptop import laptop

SEED = 0
VALIDATED = 12
SIZES, PER_SIZE = 5, 6
CANDIDATES = 2000
TIMED = 12
PRICED = 200
RECIPES = ("shrinking", "plain", "favouring")


@dataclass(frozen=True)
class Settings:
    """What all trainings share."""

    steps: int
    batch: int
    length: int
    windows: int
    device: str
    scratch_device: str
    networks: int
    seeds: int = 1
    recipes: tuple[str, ...] = RECIPES
    tuned: tuple[str, ...] = ()
    supernet_steps: int = 0
    spaces: tuple[str, ...] = ("hybrids", "sizes")

    @property
    def of_supernets(self) -> int:
        """The steps of a supernet."""
        return self.supernet_steps or self.steps

    @property
    def task(self) -> LanguageModelling:
        """The task, opened."""
        return LanguageModelling.make(data=None, length=self.length, windows=self.windows)

    def seeds_of(self, space: str) -> range:
        """Seeds of training from scratch: several for hybrids only."""
        return range(SEED, SEED + (self.seeds if space == "hybrids" else 1))

    def recipes_of(self, space: str) -> tuple[str, ...]:
        """How supernets are trained."""
        return tuple(name for name in self.recipes if space == "hybrids" or name != "favouring")


def sizes() -> Space:
    """Attention with one kv head, so that every slice of heads means the same, and SwiGLU."""
    layer = Layer(
        sequence_mixer=Attention(num_heads=one_of(2, 4), num_kv_heads=1, head_dim=16),
        channel_mixer=SwiGLU(expansion=one_of(1, 2, 3)),
    )
    decoder = Decoder(vocab=256, d_model=one_of(48, 64, 96), layers=repeat(layer, (2, 3, 4)))
    return Space(decoder, name="sizes")


SPACES: dict[str, Callable[[], Space]] = {"hybrids": laptop, "sizes": sizes}
RANKED = {"hybrids": 24, "sizes": VALIDATED}


@dataclass(frozen=True)
class Job:
    """One training in a space: a supernet by the name of its recipe, or a network by its number and seed."""

    settings: Settings
    space: str
    recipe: str = ""
    number: int = 0
    seed: int = 0


def recipe_of(name: str, space: Space, count: int) -> Recipe:
    """How a supernet is trained, with `count` networks a step."""
    supernet = SupernetRecipe(phases=WHOLE if name == "plain" else SHRINKING, networks=count)
    if name != "favouring":
        return Recipe(supernet=supernet)
    front = networks(space, VALIDATED)
    genotypes = tuple(space.genotype_of(spec).to_json() for spec in front)
    return Recipe(supernet=replace(supernet, favoured=genotypes, favour=0.9))


def networks(space: Space, count: int) -> list[Decoder]:
    """Random networks, each once."""
    dice, found = Random(f"{SEED}/networks"), dict[Decoder, None]()
    while len(found) < count:
        found[space.close(space.sample(dice))] = None
    return list(found)


def of_sizes(space: Space) -> list[list[Decoder]]:
    """Five sizes, of each the same hybrids: every number lies at that share of its options.

    Between two options the dice decide, more likely for the nearer one.
    """
    return [[_hybrid(space, size / (SIZES - 1), n) for n in range(PER_SIZE)] for size in range(SIZES)]


def _hybrid(space: Space, share: float, number: int) -> Decoder:
    def answer(path: str, labels: tuple[Label, ...]) -> Label:
        dice = Random(f"{SEED}/{number}/{path}")
        numbers = sorted(label for label in labels if isinstance(label, (int, float)))
        if not numbers:
            return dice.choice(labels)
        low, between = divmod(share * (len(numbers) - 1), 1)
        return numbers[int(low) + (dice.random() < between)]

    spec: Decoder = space.draw(answer)[1]
    return spec


def train_supernet(job: Job) -> dict[str, Any]:
    """Train one supernet; the scores of all networks that are asked for, by the windows."""
    torch.set_num_threads(1)
    settings, space, began = job.settings, SPACES[job.space](), time.monotonic()
    training = _training(settings, space, recipe_of(job.recipe, space, settings.networks))
    losses = [training.learn() for _ in range(settings.of_supernets)]
    return {
        "space": job.space,
        "recipe": job.recipe,
        "seconds": round(time.monotonic() - began, 1),
        "curve": [round(losses[i][0], 4) for i in range(0, len(losses), max(1, len(losses) // 50))],
        "random": [scored(training, spec) for spec in networks(space, RANKED[job.space])],
        "sizes": [[scored(training, spec) for spec in row] for row in of_sizes(space)],
        "tuned": {
            how: [_tuned(training, spec, how) for spec in networks(space, RANKED[job.space])]
            for how in settings.tuned
        },
    }


def _tuned(training: SupernetTraining, spec: Decoder, how: str) -> float:
    """The loss of a network that is taken out of the supernet and trained alone, `how` as STEPS[:RECIPE]."""
    steps, _, recipe = how.partition(":")
    model = training.supernet.subnet(spec).extract()
    fit(
        NetworkTraining(
            model,
            training.task,
            steps=int(steps),
            seed=SEED + 1,
            batch=training.batch,
            recipe=Recipe.from_word(recipe or "default"),
        )
    )
    losses = window_losses(
        model, training.task, segment=state_segment(spec), device=training.execution.device
    )
    return round(losses.mean().item(), 5)


def _training(settings: Settings, space: Space, recipe: Recipe) -> SupernetTraining:
    return SupernetTraining(
        space,
        settings.task,
        steps=settings.of_supernets,
        seed=SEED,
        batch=settings.batch,
        recipe=recipe,
        execution=Execution(device=settings.device),
    )


def scored(training: SupernetTraining, spec: Decoder) -> list[float]:
    """The losses of a network on every window, with the shared weights."""
    subnet = training.supernet.subnet(spec)
    with torch.no_grad():
        weights = subnet.weights()

    def call(tokens: Tensor, *, segment: int | None = None) -> Tensor:
        return subnet(tokens, weights, segment=segment)

    device = training.execution.device
    found = window_losses(call, training.task, segment=state_segment(spec), device=device)
    return [round(loss, 5) for loss in found.tolist()]


def train_alone(job: Job) -> dict[str, Any]:
    """Train one network by itself; its losses on every window."""
    torch.set_num_threads(1)
    began = time.monotonic()
    spec = networks(SPACES[job.space](), RANKED[job.space])[job.number]
    evaluator = FromScratch(job.settings.task, batch=job.settings.batch, device=job.settings.scratch_device)
    score = evaluator.score(spec, job.settings.steps, job.seed)
    return {
        "space": job.space,
        "number": job.number,
        "seed": job.seed,
        "seconds": round(time.monotonic() - began, 1),
        "losses": [round(loss, 5) for loss in score.samples],
    }


def costs(settings: Settings, name: str) -> dict[str, Any]:
    """What steps cost on a quiet machine, and the search of candidates."""
    torch.set_num_threads(1)
    space = SPACES[name]()
    training = _training(settings, space, recipe_of("plain", space, settings.networks))
    visits = Sandwich(space, SEED, settings.networks)
    for _ in range(3):
        training.learn()
    counts = _operations(training, visits, settings)
    _reset_peak(settings.device)
    steps, passes = _timed_steps(training, visits, settings)
    memory = _peak(settings.device)
    largest = visits.of(0)[0]
    alone = [_seconds_alone(spec, settings) for spec in (largest, *networks(space, VALIDATED))]
    tokens = settings.batch * settings.length
    return {
        "space": name,
        "networks a step": settings.networks,
        "supernet step, s": steps,
        "forward and backward of its networks alone, s": passes,
        "step over these passes": steps / passes,
        "operations of a step": counts[0],
        "operations, step over these passes": counts[0] / counts[1],
        "largest alone, s a step": alone[0],
        "tokens a second, supernet": tokens * settings.networks / steps,
        "tokens a second, largest alone": tokens / alone[0],
        "peak memory of the supernet, bytes": memory,
        "twelve alone, s a step together": sum(alone[1:]),
        "seconds over those of the twelve, plain": steps / sum(alone[1:]),
        "FLOPs over those of the twelve, plain": _flops("plain", space, settings),
        "FLOPs over those of the twelve, shrinking": _flops("shrinking", space, settings),
        f"seconds to score {CANDIDATES} candidates": CANDIDATES * _scoring_seconds(training, space),
    }


def _timed_steps(training: SupernetTraining, visits: Sandwich, settings: Settings) -> tuple[float, float]:
    """Medians of the seconds of a step, and of forward and backward of the same subnets extracted."""
    steps, passes = [], []
    for _ in range(TIMED):
        specs = visits.of(training.step)
        data = settings.task.train_batch(training.step, SEED, settings.batch)
        tokens, targets = (part.to(settings.device) for part in data)
        models = [training.supernet.subnet(spec).extract() for spec in specs]
        read = partial(_forward_and_backward, models, tokens, targets)
        passes.append(_seconds(read, settings))
        steps.append(_seconds(training.learn, settings))
    return statistics.median(steps), statistics.median(passes)


def _forward_and_backward(models: Sequence[nn.Module], tokens: Tensor, targets: Tensor) -> None:
    for model in models:
        token_loss(model(tokens), targets).backward()


class _Operations(TorchDispatchMode):
    """Counts what is computed: on a GPU about a launch each, which is what small networks are made of."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Views and room cost no launch."""
        self.count += not (func.is_view or func.__name__.startswith(("detach", "empty", "new_empty")))
        return func(*args, **(kwargs or {}))


def _operations(training: SupernetTraining, visits: Sandwich, settings: Settings) -> tuple[int, int]:
    """Operations of a step, and of forward and backward of the same subnets extracted."""
    specs = visits.of(training.step)
    data = settings.task.train_batch(training.step, SEED, settings.batch)
    tokens, targets = (part.to(settings.device) for part in data)
    models = [training.supernet.subnet(spec).extract() for spec in specs]
    with _Operations() as passes:
        _forward_and_backward(models, tokens, targets)
    with _Operations() as step:
        training.learn()
    return step.count, passes.count


def _seconds(call: Callable[[], Any], settings: Settings, repeats: int = 2) -> float:
    """The shorter one of two calls, so that a first one may warm up."""
    found = []
    for _ in range(repeats):
        _wait(settings.device)
        began = time.perf_counter()
        call()
        _wait(settings.device)
        found.append(time.perf_counter() - began)
    return min(found)


def _seconds_alone(spec: Decoder, settings: Settings) -> float:
    model = build(spec, seed=SEED, device=settings.device)
    training = NetworkTraining(model, settings.task, steps=3 + TIMED, seed=SEED, batch=settings.batch)
    fit(training, until=3)
    found = [_seconds(training.learn, settings, 1) for _ in range(TIMED)]
    return statistics.median(found)


def _flops(name: str, space: Space, settings: Settings) -> float:
    """FLOPs of a whole training over those of the twelve, on paper: the phases' networks by their shares."""
    scenario, recipe = Scenario(prompt=settings.length), recipe_of(name, space, settings.networks)

    def price(specs: Sequence[Decoder]) -> int:
        return sum(spec.cost(scenario).prefill_flops for spec in specs)

    spent = 0.0
    for phase in recipe.supernet.phases:
        visits = Sandwich(narrowed(space, phase.varies), SEED, settings.networks)
        spent += phase.share * statistics.fmean(price(visits.of(i)) for i in range(PRICED))
    whole = sum(phase.share for phase in recipe.supernet.phases)
    return spent / whole / price(networks(space, VALIDATED))


def _scoring_seconds(training: SupernetTraining, space: Space, count: int = 20) -> float:
    """Seconds to read, build and score one candidate that was never seen."""
    dice = Random(f"{SEED}/candidates")
    specs = [space.close(space.sample(dice)) for _ in range(count)]
    began = time.perf_counter()
    for spec in specs:
        scored(training, spec)
    return (time.perf_counter() - began) / count


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def _reset_peak(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()


def _peak(device: str) -> int | None:
    return torch.cuda.max_memory_allocated() if device.startswith("cuda") else None


def rank_agreement(one: Sequence[float], other: Sequence[float]) -> dict[str, Any]:
    """Kendall's tau, and its 95 % interval by the bootstrap over networks."""
    tau = tau_with_interval(one, other, seed=SEED)
    return {"tau": tau.value, "interval": [tau.low, tau.high], "networks": len(one)}


def compared(shrinking: dict[str, Any], plain: dict[str, Any]) -> list[dict[str, Any]]:
    """By size: bits per byte of both, and the paired difference over hybrids with its standard error."""
    rows = []
    for size in range(SIZES):
        ours = [statistics.fmean(losses) for losses in shrinking["sizes"][size]]
        theirs = [statistics.fmean(losses) for losses in plain["sizes"][size]]
        differences = [a - b for a, b in zip(ours, theirs, strict=True)]
        error = statistics.stdev(differences) / math.sqrt(len(differences))
        rows.append(
            {
                "size": size + 1,
                "shrinking": statistics.fmean(ours),
                "plain": statistics.fmean(theirs),
                "difference": statistics.fmean(differences),
                "error": error,
            }
        )
    return rows


def gaps_to(alone: Sequence[float], values: Sequence[float]) -> list[float]:
    """By what share the losses of the validated networks lie above those of the same trained alone."""
    return [value / own - 1 for value, own in zip(values, alone, strict=True)][:VALIDATED]


def summarised(found: dict[str, Any], space: str) -> dict[str, Any]:
    """Everything that is claimed of a space, from the rows."""
    alone: dict[int, list[float]] = {row["seed"]: [] for row in found["alone"] if row["space"] == space}
    for row in sorted(found["alone"], key=lambda row: row["number"]):
        if row["space"] == space:
            alone[row["seed"]].append(statistics.fmean(row["losses"]))
    supernets = {row["recipe"]: row for row in found["supernets"] if row["space"] == space}
    summary: dict[str, Any] = {}
    if {"shrinking", "plain"} <= set(supernets):
        summary["by size"] = compared(supernets["shrinking"], supernets["plain"])
    summary["alone, bits per byte"] = [round(value, 4) for value in alone[SEED]]
    if len(alone) > 1:
        summary["between two seeds alone"] = rank_agreement(*alone.values())
    mean = [statistics.fmean(values) for values in zip(*alone.values(), strict=True)]
    for name, supernet in supernets.items():
        values = [statistics.fmean(losses) for losses in supernet["random"]]
        gaps = gaps_to(mean, values)
        summary[name] = {
            "rank agreement with scratch": rank_agreement(values, alone[SEED]),
            "rank agreement with the mean of the seeds": rank_agreement(values, mean),
            "bits per byte": [round(value, 4) for value in values],
            "over the twelve alone": {"mean": statistics.fmean(gaps), "worst": max(gaps), "best": min(gaps)},
            "tuned": {
                how: {
                    "over the twelve alone": statistics.fmean(gaps_to(mean, tuned)),
                    "rank agreement with the mean of the seeds": rank_agreement(tuned, mean),
                }
                for how, tuned in supernet["tuned"].items()
            },
        }
    return summary


def measure(settings: Settings, processes: int, known: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    """First what steps cost, then all trainings but those of networks alone that are `known`."""
    there = {(row["space"], row["number"], row["seed"]) for row in known}
    cost = [costs(settings, name) for name in settings.spaces]
    print(json.dumps(cost, indent=1), flush=True)
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        supernets = [
            pool.submit(train_supernet, Job(settings, name, recipe))
            for name in settings.spaces
            for recipe in settings.recipes_of(name)
        ]
        alone = [
            pool.submit(train_alone, Job(settings, name, number=n, seed=seed))
            for name in settings.spaces
            for seed in settings.seeds_of(name)
            for n in range(RANKED[name])
            if (name, n, seed) not in there
        ]
        found = {"costs": cost, "alone": [*known, *_heard(alone)], "supernets": _heard(supernets)}
    return {"summary": {name: summarised(found, name) for name in settings.spaces}, **found}


def _heard(jobs: Sequence[Future[dict[str, Any]]]) -> list[dict[str, Any]]:
    rows = []
    for job in jobs:
        rows.append(job.result())
        told = {key: value for key, value in rows[-1].items() if not isinstance(value, list)}
        print(told, flush=True)
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the summary, and keep everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", default="cpu", help="of the supernets and of all figures of cost")
    parser.add_argument("--scratch-device", default="cpu", help="of the networks that are trained alone")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument(
        "--supernet-steps", type=int, default=0, help="other than --steps, those of the networks alone"
    )
    parser.add_argument(
        "--alone",
        type=Path,
        help="an earlier result of the same steps and windows: its networks alone are kept",
    )
    parser.add_argument("--spaces", nargs="+", choices=list(SPACES), default=list(SPACES))
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--windows", type=int, default=128)
    parser.add_argument("--networks", type=int, default=4, help="a step: the largest, the smallest, others")
    parser.add_argument("--seeds", type=int, default=2, help="of hybrids trained alone")
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=list(RECIPES))
    parser.add_argument(
        "--tuned",
        nargs="+",
        default=[],
        metavar="STEPS[:RECIPE]",
        help="short trainings that the ranked networks of a supernet then have alone",
    )
    parser.add_argument("--out", type=Path, default=RESULTS / "oneshot_progressive_shrinking.json")
    given = parser.parse_args([] if arguments is None else arguments)
    settings = Settings(
        steps=given.steps,
        batch=given.batch,
        length=given.length,
        windows=given.windows,
        device=given.device,
        scratch_device=given.scratch_device,
        networks=given.networks,
        seeds=given.seeds,
        recipes=tuple(given.recipes),
        tuned=tuple(given.tuned),
        supernet_steps=given.supernet_steps,
        spaces=tuple(given.spaces),
    )
    settings.task.validation()
    known = json.loads(given.alone.read_text())["alone"] if given.alone else []
    found = measure(settings, given.processes, [row for row in known if row["space"] in settings.spaces])
    print(json.dumps(found["summary"], indent=1))
    command = "python -m benchmarks.oneshot.progressive_shrinking " + " ".join(arguments or [])
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps({**provenance(command.strip()), **found}, indent=1) + "\n")


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
