"""What work will take, estimated before it begins, so that years are not begun by a slip of a finger.

Time is counted operations over a stated speed, memory is what the largest network needs to learn; both are
within a factor of ten or so. What would take over a week, or more memory than there is, needs consent: the
command line asks for it, or takes `--yes`; in Python it is `yes=True`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from math import prod
from random import Random

from evaluators.supernet.sandwich import is_size
from evaluators.tasks.base import Task
from evaluators.training.chunked_loss import AT_ONCE
from evaluators.training.recipe import Recipe
from foundation.errors import ConsentNeeded, IllegalArchitecture
from foundation.text import duration, listed, size
from nas.engines.base import Engine
from nas.modifiers.lists import modifiers_of
from nas.schedulers.base import training_steps
from nas.study.baselines import SIZES, wants_baselines
from nas.study.plan import Plan
from nas.study.plan_objectives import is_decoder_space
from nas.study.task_settings import training_of
from nas.tables.study_tables import scenarios_to_time
from search_spaces.devices import kind_of_device, memory_of
from search_spaces.language.genotype import Label
from search_spaces.language.space import Space
from search_spaces.network.cost import NetworkCost
from search_spaces.network.decoder import Decoder
from search_spaces.scenario import Scenario

SPEED = {"cpu": 5e10, "cuda": 2e13}
"""Operations per second that small networks reach, by kind of device."""

PASS_SECONDS = 0.003
"""Least time of a network's forward pass, however small it is; a backward pass takes two more."""

TRIAL_SECONDS = 0.005
"""Time of a trial besides the score: a proposal, its costs, its record."""

TRIAL_BYTES = 4096
"""Memory of a trial while a search holds it."""

LOGIT_BYTES = 12.0
"""A logit, its softmax and its gradient in float32."""

LEARNING_BYTES = 16
"""Bytes of a parameter that learns: itself, its gradient, and two numbers of the optimizer."""

DRAWS = 8
"""Networks among which the largest is looked for: kinds of blocks are drawn, sizes are the largest."""

REPEATS = 100
"""How often a prompt is read, at least, until its latency is known."""

WEEK = 7 * 86400.0

WITHOUT_ASKING = WEEK
"""Seconds that work may take without asking."""


@dataclass(frozen=True)
class Forecast:
    """Seconds of work, and bytes of memory by device."""

    seconds: float = 0.0
    memory: Mapping[str, float] = field(default_factory=dict)

    def times(self, often: float) -> Forecast:
        """The same work so many times."""
        return replace(self, seconds=often * self.seconds)

    def __add__(self, later: Forecast) -> Forecast:
        """One after the other."""
        devices = {*self.memory, *later.memory}
        memory = {device: max(self.memory.get(device, 0), later.memory.get(device, 0)) for device in devices}
        return Forecast(self.seconds + later.seconds, memory)

    def require_consent(self, yes: bool) -> None:
        """Raise `ConsentNeeded` where this takes over a week or more memory than there is, unless `yes`."""
        over = {device: held for device, held in self.memory.items() if held > (memory_of(device) or held)}
        if yes or (self.seconds <= WITHOUT_ASKING and not over):
            return
        parts = [duration(self.seconds)] if self.seconds > WITHOUT_ASKING else []
        for device, held in over.items():
            parts.append(f"{size(held)} of memory ({device} has {size(memory_of(device) or 0)})")
        raise ConsentNeeded(f"this would take about {listed(parts)}")


@dataclass(frozen=True, kw_only=True)
class Work:
    """What networks of a space cost: of `largest`, where they read sequences of a `length` on a `device`."""

    largest: Decoder
    length: int
    device: str = "cpu"

    @property
    def cost(self) -> NetworkCost:
        """Of reading one sequence."""
        return self.largest.cost(Scenario(prompt=self.length))

    @property
    def kept_bytes(self) -> float:
        """What a layer's products read and write, and the logits, of one token."""
        return self._product_bytes + LOGIT_BYTES * self.largest.vocab

    @property
    def _product_bytes(self) -> float:
        width = self.largest.d_model
        shell = self.largest.shell
        outer = sum(prod(shell.shapes[name]) for name in shell.matrices)
        products = max(0, self.cost.params - outer) / width
        return 8.0 * products

    def learning(
        self, steps: float, batch: int, *, networks: int = 1, pieces: int = 1, all_logits: bool = False
    ) -> Forecast:
        """So many steps of training, which holds few logits at a time unless it needs all of them."""
        passes = steps * networks
        seconds = passes * (3 * self.cost.prefill_flops * batch / self._speed + 3 * pieces * PASS_SECONDS)
        at_once = -(-batch // pieces) * self.length
        logits = at_once * self.largest.vocab
        held = LEARNING_BYTES * self.cost.params + self._product_bytes * at_once
        held += LOGIT_BYTES * (logits if all_logits else min(logits, AT_ONCE))
        return Forecast(seconds, {self.device: held})

    def scoring(self, networks: float, windows: int) -> Forecast:
        """So many networks scored on this many windows."""
        each = self.cost.prefill_flops * windows / self._speed + PASS_SECONDS * windows / 32
        # the tokens of all windows, and what follows each, as whole numbers of 64 bits
        return Forecast(networks * each, {"cpu": 16.0 * windows * self.length})

    @property
    def _speed(self) -> float:
        return SPEED[kind_of_device(self.device)]


def largest_of(space: Space) -> Decoder:
    """A network of the space that costs as much as any, or nearly; constraints may forbid it.

    Raises:
        SpaceError: no network was found.
    """
    dice, largest = Random("forecast"), list[Decoder]()

    def answer(path: str, labels: tuple[Label, ...]) -> Label:
        numbers = [label for label in labels if isinstance(label, (int, float))]
        return max(numbers) if is_size(labels) else dice.choice(labels)

    for _ in range(DRAWS):
        spec = space.draw(answer)[1]
        with suppress(IllegalArchitecture):  # the largest sizes need not go together
            spec.check()
            largest.append(spec)
    return max(largest, key=_params) if largest else space.close(space.sample(dice))


def _params(spec: Decoder) -> int:
    return spec.cost(Scenario()).params


def of_trials(trials: float) -> Forecast:
    """What trials take besides their scores."""
    return Forecast(trials * TRIAL_SECONDS, {"cpu": trials * TRIAL_BYTES})


def of_timing(largest: Decoder, scenario: Scenario, seconds: float) -> Forecast:
    """Measuring latency in a scenario for so many seconds, or as long as a few readings take."""
    cost = largest.cost(scenario)
    speed = SPEED.get(kind_of_device(scenario.device), SPEED["cpu"])
    one_layer = Work(largest=largest, length=1).kept_bytes / max(1, len(largest.layers))
    tokens = scenario.batch * (one_layer * scenario.prompt + 8.0 * scenario.context)
    held = 4.0 * cost.params + cost.state_bytes + tokens
    return Forecast(max(seconds, REPEATS * cost.prefill_flops / speed), {scenario.device: held})


def of_supernet(work: Work, recipe: Recipe, steps: int, batch: int, *, pieces: int = 1) -> Forecast:
    """Training shared weights."""
    shared = recipe.supernet
    return work.learning(steps, batch, networks=shared.networks, pieces=pieces, all_logits=shared.distill > 0)


def of_plan(space: Space, plan: Plan, tasks: Sequence[Task], engine: Engine) -> Forecast:
    """A whole study; the tasks are what it trains for, if it does."""
    trials = min(plan.trials, space.size())
    forecast = of_trials(trials)
    if not is_decoder_space(space):
        return forecast
    largest = largest_of(space)
    for scenario in scenarios_to_time(plan) if plan.time_on is None else ():
        forecast += of_timing(largest, scenario, plan.profile_seconds)
    for task in tasks[:1] if plan.shared_training else tasks:
        work = Work(largest=largest, length=task.length, device=plan.train_on)
        training = training_of(plan, task.name)
        steps = training.steps or plan.train_steps
        if plan.evaluator == "scratch":
            spent = trials * training.steps if training.steps else training_steps(plan, trials)
            forecast += work.learning(spent, plan.train_batch).times(training.rates)
        elif plan.supernet is None and plan.parent is None and trials:
            forecast += of_supernet(work, plan.recipe, steps, plan.train_batch)
        forecast += work.learning(engine.gradient_steps, engine.sequences, all_logits=True)
        forecast += _of_finalists(work, plan) + _of_baselines(work, plan) + _of_repeats(work, plan)
        forecast += _of_modifiers(work, plan)
    for task in tasks:
        work = Work(largest=largest, length=task.length, device=plan.train_on)
        forecast += work.scoring(trials, task.windows)
    return forecast


def of_baselines(space: Space, plan: Plan, tasks: Sequence[Task]) -> Forecast:
    """Training the baselines of a plan from scratch, at most."""
    forecast, largest = Forecast(), largest_of(space)
    for task in tasks[:1] if plan.shared_training else tasks:
        forecast += _of_baselines(Work(largest=largest, length=task.length, device=plan.train_on), plan)
    return forecast


def _of_baselines(work: Work, plan: Plan) -> Forecast:
    """Every size beside every rung, each from its first step."""
    if not wants_baselines(plan):
        return Forecast()
    alive, steps = plan.finalists, 0
    for rung in plan.finalist_steps if alive else (plan.train_steps,):
        steps += min(SIZES, alive or SIZES) * rung
        alive = max(1, math.ceil(alive * plan.keep))
    return work.learning(len(plan.baselines) * steps, plan.train_batch)


def _of_repeats(work: Work, plan: Plan) -> Forecast:
    """The last rung again, with other seeds."""
    alive = _in_last_rung(plan)
    if not plan.finalists or plan.final_seeds == 1:
        return Forecast()
    networks = alive + min(SIZES, alive) * len(plan.baselines)
    return work.learning(networks * plan.finalist_steps[-1], plan.train_batch).times(plan.final_seeds - 1)


def _in_last_rung(plan: Plan) -> int:
    """Finalists that are trained longest."""
    alive = plan.finalists
    for _ in plan.finalist_steps[1:] if alive else ():
        alive = max(1, math.ceil(alive * plan.keep))
    return alive


def _of_finalists(work: Work, plan: Plan) -> Forecast:
    """Each rung goes on from the one before."""
    alive, before, steps = plan.finalists, 0, 0
    for rung in plan.finalist_steps:
        steps, before = steps + alive * (rung - before), rung
        alive = max(1, math.ceil(alive * plan.keep))
    return work.learning(steps, plan.train_batch) if plan.finalists else Forecast()


def _of_modifiers(work: Work, plan: Plan) -> Forecast:
    """What follows the search, for each network of the last rung; what cannot be applied takes no time."""
    if not plan.then:
        return Forecast()
    one = Scenario(prompt=work.length)
    operations = [
        m.flops(work.largest, one) for m in modifiers_of(plan.then) if not m.unsupported(work.largest)
    ]
    return Forecast(sum(operations) / SPEED["cpu"]).times(_in_last_rung(plan) or 1)
