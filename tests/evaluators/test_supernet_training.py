"""One training for all: it resumes after a kill, in phases, in pieces, by several workers, in bfloat16."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open

from evaluators.supernet.evaluator import CURVE, FromSupernet
from evaluators.supernet.recipe import SupernetRecipe
from evaluators.supernet.shrinking import SHRINKING
from evaluators.supernet.training import SupernetTraining
from evaluators.tasks.base import IGNORED, Task
from evaluators.tasks.recall import Recall
from evaluators.training import checkpoints
from evaluators.training.beforehand import Job
from evaluators.training.execution import INDUCTOR, TRACED, Execution
from evaluators.training.process_group import ProcessGroup, join
from evaluators.training.recipe import Recipe
from foundation.errors import EvaluationFailed, SettingError, SpaceError
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.moe import MoE
from search_spaces.blocks.short_conv import ShortConv
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.choices import one_of, repeat
from search_spaces.language.serialization import to_json
from search_spaces.language.space import Space
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.quantization.bits import Bits

TASK = Recall(tokens=12, length=10, pairs=2, sequences=50, windows=8)
STEPS, BATCH = 12, 6
PHASES = tuple(replace(phase, share=share) for phase, share in zip(SHRINKING, (2, 2, 2, 6), strict=True))


def small(channels: Any = None, **more: Any) -> Space:
    mixer = Attention(num_heads=4, num_kv_heads=one_of(1, 4), head_dim=4, rotary=False)
    layer = Layer(
        sequence_mixer=one_of(mixer, ShortConv()),
        channel_mixer=channels or SwiGLU(expansion=one_of(1, 2)),
        bits=Bits(weight=one_of(4, 16)),
    )
    return Space(Decoder(vocab=12, d_model=one_of(8, 16), layers=repeat(layer, (1, 2))), **more)


def recipe_with(**settings: Any) -> Recipe:
    return Recipe(supernet=SupernetRecipe(**settings))


def training(space: Space | None = None, task: Task = TASK, **more: Any) -> SupernetTraining:
    settings: dict[str, Any] = {
        "steps": STEPS,
        "seed": 1,
        "batch": BATCH,
        "recipe": recipe_with(phases=PHASES),
    }
    return SupernetTraining(space or small(), task, **settings | more)


def trained(*, until: int = STEPS, **more: Any) -> tuple[SupernetTraining, list[tuple[float, float]]]:
    made = training(**more)
    return made, [made.learn() for _ in range(until)]


SOFT = recipe_with(phases=PHASES, distill=0.5)
"""With in-place distillation: the networks of a step read one batch."""


def assert_alike(first: SupernetTraining, second: SupernetTraining, atol: float = 0.0) -> None:
    for name, tensor in first.tensors().items():
        torch.testing.assert_close(second.tensors()[name], tensor, rtol=0, atol=atol, msg=name)


def test_losses_fall_in_every_phase() -> None:
    made, losses = trained(until=60, steps=60)
    assert losses[-1][0] < losses[0][0] - 0.3
    assert losses[-1][1] < losses[0][1] - 0.1
    assert made.step == 60


@pytest.mark.parametrize(("soft", "batches"), [(0.0, [9, 10, 11]), (0.5, [3])])
def test_networks_read_a_batch_each_and_share_one_where_they_learn_from_the_first(
    monkeypatch: pytest.MonkeyPatch, soft: float, batches: list[int]
) -> None:
    read: list[int] = []
    batch_of = Recall.train_batch

    def noted(task: Recall, step: int, seed: int, batch: int) -> Any:
        read.append(step)
        return batch_of(task, step, seed, batch)

    monkeypatch.setattr(Recall, "train_batch", noted)
    trained(until=4, recipe=recipe_with(networks=3, distill=soft))
    assert read[-len(batches) :] == batches


def test_all_but_the_first_network_learn_its_predictions() -> None:
    made = training(recipe=recipe_with(networks=3, distill=0.8), steps=8)
    made.step, soft = 6, 0.8 * 6 / 8
    specs = made._sandwiches[0].of(6)
    subnets = [made.supernet.subnet(spec) for spec in specs]
    tokens, targets = TASK.train_batch(0, 1, BATCH)
    made.supernet.zero_grad()
    losses = made._read(subnets, made.supernet.at_sixteen(), tokens, targets, 1.0)
    gradients = {key: w.grad.clone() for key, w in made.supernet.weights.items() if w.grad is not None}
    made.supernet.zero_grad()
    teacher, wanted = None, []
    for subnet in subnets:
        judged = subnet(tokens)[targets != IGNORED]
        hard = F.cross_entropy(judged, targets[targets != IGNORED])
        if teacher is None:
            teacher, loss = judged.detach().softmax(-1), hard
        else:
            parted = (teacher * (teacher.log() - judged.log_softmax(-1))).sum(-1).mean()
            loss = (1 - soft) * hard + soft * parted
        loss.backward()
        wanted.append([hard.item(), loss.item()])
    torch.testing.assert_close(torch.stack(losses), torch.tensor(wanted))
    for key, weight in made.supernet.weights.items():
        if weight.grad is None:
            assert key not in gradients
        else:
            torch.testing.assert_close(gradients[key], weight.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("recipe", [recipe_with(phases=PHASES), SOFT], ids=["own batches", "one batch"])
@pytest.mark.parametrize("stop", [1, 2, 4, 6, 11])
def test_resuming_at_any_step_changes_nothing(tmp_path: Path, stop: int, recipe: Recipe) -> None:
    straight, losses = trained(recipe=recipe)
    stopped, first = trained(until=stop, recipe=recipe)
    checkpoints.save(stopped, tmp_path)
    resumed = training(recipe=recipe)
    assert checkpoints.resume(resumed, tmp_path, STEPS) == stop
    assert first + [resumed.learn() for _ in range(STEPS - stop)] == losses
    assert_alike(straight, resumed)


def test_a_checkpoint_tells_its_phase(tmp_path: Path) -> None:
    made, _ = trained(until=3)
    path = checkpoints.save(made, tmp_path)
    with safe_open(path, framework="pt") as file:
        progress = json.loads(file.metadata()["progress"])
    assert progress == {"phase": "sizes", "steps": STEPS}


def test_another_recipe_is_another_training(tmp_path: Path) -> None:
    made, _ = trained(until=2)
    checkpoints.save(made, tmp_path)
    for recipe in (
        Recipe(),
        recipe_with(phases=PHASES, distill=0.4),
        recipe_with(phases=PHASES, sort="none"),
    ):
        assert checkpoints.resume(training(recipe=recipe), tmp_path, STEPS) == 0
    assert checkpoints.resume(training(execution=Execution(accumulate=2)), tmp_path, STEPS) == 2


def test_sorting_happens_where_something_opens_and_changes_no_loss_before() -> None:
    made, _ = trained(until=2)
    assert made.sorted == []
    made.learn()
    assert {axis.letter for axis in made.sorted} >= {"G", "F"}
    rng = recipe_with(phases=PHASES, sort="none")
    plain, losses = trained(recipe=rng)
    sorting, others = trained()
    assert plain.sorted == []
    # the largest network computes the same before and after, so its first loss in a phase is the same
    assert losses[:2] == others[:2]
    assert losses[2][0] == pytest.approx(others[2][0], abs=1e-5)
    assert losses[-1] != others[-1]
    assert sorting.step == plain.step == STEPS


KILLED = """
import sys, time
import torch
torch.set_num_threads(1)
from tests.evaluators.test_supernet_training import evaluator
def report(step, loss):
    print(step, flush=True)
    time.sleep(0.05)
evaluator(sys.argv[1]).train(report, save_seconds=0.0)
"""


def evaluator(folder: str | Path, **more: Any) -> FromSupernet:
    made = FromSupernet(TASK, to_json(small().root), str(folder), STEPS, 1, BATCH)
    return replace(made, **{"recipe": recipe_with(phases=PHASES), **more})


def test_a_training_that_is_killed_goes_on_to_the_same_curve(tmp_path: Path) -> None:
    straight = evaluator(tmp_path / "straight").train()
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path / "killed")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) == 7:
            os.kill(process.pid, signal.SIGKILL)
            break
    assert process.wait() == -signal.SIGKILL
    process.stdout.close()
    heard: list[int] = []
    went_on = evaluator(tmp_path / "killed").train(lambda step, _: heard.append(step))
    assert heard[-1] == STEPS
    assert 5 <= heard[0] <= 9
    assert went_on["loss"] == straight["loss"]
    spec = small().close(small().sample(Random(0)))
    assert evaluator(tmp_path / "killed").score(spec, 0, 0) == evaluator(tmp_path / "straight").score(
        spec, 0, 0
    )


@pytest.mark.parametrize("recipe", [recipe_with(phases=PHASES), SOFT], ids=["own batches", "one batch"])
def test_reading_in_pieces_is_reading_at_once(recipe: Recipe) -> None:
    whole, losses = trained(recipe=recipe)
    pieces, others = trained(recipe=recipe, execution=Execution(accumulate=3))
    assert [pair[0] for pair in others] == pytest.approx([pair[0] for pair in losses], abs=2e-3)
    at_once, in_four = (trained(until=1, recipe=recipe, execution=Execution(accumulate=n))[0] for n in (1, 4))
    assert_alike_gradients(at_once, in_four)
    assert whole.step == pieces.step


def assert_alike_gradients(first: SupernetTraining, second: SupernetTraining) -> None:
    """After one step: Adam's first moments are the clipped gradients."""
    for key, weight in first.supernet.weights.items():
        if weight in first.optimizer.state:
            moment = first.optimizer.state[weight]["exp_avg"]
            expected = second.optimizer.state[second.supernet.weights[key]]["exp_avg"]
            torch.testing.assert_close(moment, expected, rtol=1e-4, atol=1e-6, msg=key)


@pytest.mark.parametrize("channels", [None, MoE(num_experts=4, top_k=2, expansion=1)])
def test_layers_that_are_computed_again_learn_the_same(channels: Any) -> None:
    space = small(channels)
    straight, losses = trained(space=space, until=6)
    again, others = trained(space=space, until=6, execution=Execution(checkpoint_activations=True))
    assert losses == others
    assert_alike(straight, again)


def test_recomputing_keeps_less() -> None:
    kept: dict[bool, int] = {}
    for recompute in (False, True):
        made = training(space=Space(small().root), recipe=recipe_with(networks=2))
        subnet = made.supernet.subnet(made._sandwiches[0].of(0)[0])
        sizes: dict[int, int] = {}

        def keep(tensor: torch.Tensor, sizes: dict[int, int] = sizes) -> torch.Tensor:
            sizes[tensor.data_ptr()] = tensor.numel()
            return tensor

        tokens = torch.randint(12, (8, 40))
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            subnet(tokens, subnet.leaves(), recompute=recompute)
        kept[recompute] = sum(sizes.values())
    assert kept[True] < 0.6 * kept[False]


def test_low_precision_learns_nearly_the_same() -> None:
    _, losses = trained(until=20, steps=20)
    made, others = trained(
        until=20, steps=20, recipe=replace(recipe_with(phases=PHASES), precision="bfloat16")
    )
    assert losses != others
    assert [largest for largest, _ in others] == pytest.approx([largest for largest, _ in losses], abs=0.15)
    assert all(weight.dtype == torch.float32 for weight in made.supernet.parameters())


SHARED = {
    "networks": recipe_with(phases=PHASES),
    "rows": recipe_with(phases=PHASES, networks=3),
    "rows, from one teacher": SOFT,
}
"""What two processes share of a step: two of four networks each, or rows of every network's batch."""

WORKER = """
import json, sys
import torch
torch.set_num_threads(1)
from evaluators.training.process_group import join
from tests.evaluators.test_supernet_training import SHARED, summary, trained
with join(int(sys.argv[1]), 2, sys.argv[2]) as process_group:
    made, losses = trained(process_group=process_group, recipe=SHARED[sys.argv[3]])
    print(json.dumps([losses, summary(made), made.sharing.teams]))
"""


def summary(made: SupernetTraining) -> dict[str, float]:
    """The sum of every tensor's sizes: weights, and what the optimizer keeps of those that were touched."""
    return {name: float(tensor.double().abs().sum()) for name, tensor in made.tensors().items()}


@pytest.mark.parametrize("shared", SHARED)
def test_two_workers_learn_what_one_does_with_the_whole_batch(tmp_path: Path, shared: str) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(rank), str(tmp_path / "meeting"), shared],
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    printed = [json.loads(process.communicate(timeout=120)[0]) for process in processes]
    assert printed[0] == printed[1]
    of_two, sums, teams = printed[0]
    assert teams == (2 if shared == "networks" else 1)
    alone, losses = trained(recipe=SHARED[shared])
    for pair, of_pair in zip(losses, of_two, strict=True):
        assert of_pair == pytest.approx(pair, abs=2e-3)
    assert sums == pytest.approx(summary(alone), rel=1e-2, abs=1e-4)


def test_workers_need_rows_and_a_place() -> None:
    with pytest.raises(SettingError, match="3 rows cannot be shared by 4"):
        ProcessGroup(0, 4).rows(torch.zeros(3, 2))
    rows = torch.arange(7)[:, None]
    assert torch.equal(
        torch.cat([ProcessGroup(rank, 3).rows(rows) for rank in range(3)]).sort(0).values, rows
    )
    with pytest.raises(SettingError, match="one of 0 to 1, got 2"), join(2, 2, "nowhere"):
        pass


def test_a_phase_that_the_space_forbids_is_refused_at_once() -> None:
    forbidding = small(constraints=[lambda spec: spec.d_model * len(spec.layers) < 32])
    with pytest.raises(SpaceError, match="leave this phase out"):
        training(space=forbidding)
    assert training(space=forbidding, recipe=Recipe()).learn()[0] > 0


def test_a_loss_that_is_not_finite_stops_the_training() -> None:
    made = training()
    with torch.no_grad():
        made.supernet.weights["embedding"].fill_(float("nan"))
    with pytest.raises(EvaluationFailed, match="loss is nan at step 1"):
        made.learn()


def test_favoured_genotypes_wait_for_the_whole_space() -> None:
    space = small()
    front = tuple(space.sample(Random(i)).to_json() for i in range(2))
    made = training(space=space, recipe=recipe_with(phases=PHASES, favoured=front, favour=1.0))
    assert [bool(visits.favoured) for visits in made._sandwiches] == [False, False, False, True]
    while made.step < STEPS:
        made.learn()
    other = training(space=space)
    while other.step < STEPS:
        other.learn()
    assert not torch.equal(made.supernet.weights["embedding"], other.supernet.weights["embedding"])


def test_the_curve_is_kept(tmp_path: Path) -> None:
    report = evaluator(tmp_path).train()
    curve = json.loads((tmp_path / CURVE).read_text())
    assert curve["loss"] == report["loss"]
    assert [entry[0] for entry in report["loss"]] == list(range(1, STEPS + 1))
    began = time.monotonic()
    assert evaluator(tmp_path).train() == report
    assert time.monotonic() - began < 5


# those that the compiler itself sets off
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The .grad attribute")
def test_compiled_regions_serve_all_subnets() -> None:
    mixer = Attention(num_heads=2, num_kv_heads=2, head_dim=4)
    layer = Layer(sequence_mixer=mixer, channel_mixer=MoE(num_experts=3, top_k=1, expansion=1))
    few = Space(Decoder(vocab=12, d_model=one_of(4, 8), layers=(layer,)))
    plain, losses = trained(space=few, recipe=recipe_with(networks=2), until=5)
    regions, others = trained(
        space=few, recipe=recipe_with(networks=2), until=5, execution=Execution(compile=TRACED)
    )
    for pair, compiled_pair in zip(losses, others, strict=True):
        assert compiled_pair == pytest.approx(pair, abs=1e-5)
    assert_alike(plain, regions, atol=1e-3)


class Meeting(ProcessGroup):
    """One of two processes, the other of which is awaited only in words."""

    def add_up(self, tensors: Any) -> None:
        """Nothing: the other one does nothing."""

    def any_of(self, flags: Any) -> list[bool]:
        """Those that are set here."""
        return list(flags)

    def wait(self, device: str) -> None:
        heard.append(f"process {self.rank} waits")


heard: list[str] = []


def test_one_process_compiles_beforehand_and_the_others_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    def compile_beforehand(job: Job) -> float:
        heard.append("compiles")
        return 5.0

    monkeypatch.setattr("evaluators.supernet.training.compile_beforehand", compile_beforehand)
    heard.clear()
    for rank in (0, 1):
        execution = Execution(compile=INDUCTOR, compile_seconds=1.0)  # too few for anything more
        made = training(execution=execution, process_group=Meeting(rank, 2))
        made.learn()
        made.learn()
        assert made.regions.spent == (0.0 if rank else 5.0)
    assert heard == ["compiles", "process 0 waits", "process 1 waits"]
