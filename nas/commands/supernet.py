"""Commands about supernets as folders of their own: `nas supernet train`, `nas supernet info`."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from nas.commands.options import Json
from nas.commands.search import print_line
from nas.study.plan import Plan

DEFAULTS = Plan()

commands = typer.Typer(
    help="Train weights for a whole space once; search them many times.", no_args_is_help=True
)


def mount(app: typer.Typer) -> None:
    """Add these commands."""
    app.add_typer(commands, name="supernet")


@commands.command()
def train(
    space: Annotated[
        str,
        typer.Argument(help="A ready-made space (`nas spaces`), or FILE.py[:NAME].", show_default=False),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write.", show_default=False)],
    steps: Annotated[int, typer.Option(min=1, help="Training steps.")] = 1000,
    batch: Annotated[
        int, typer.Option(min=1, help="Windows that each network of a step reads.")
    ] = DEFAULTS.batch,
    length: Annotated[
        int | None, typer.Option(min=1, help="Tokens per window; default: the task's own, 128 for text.")
    ] = None,
    windows: Annotated[int | None, typer.Option(min=2, help="Validation windows.")] = None,
    task: Annotated[str, typer.Option(help="What is learned: language or recall.")] = "language",
    data: Annotated[
        str | None,
        typer.Option(help="A folder or file of text; default: the standard library's own source."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Decides all chance.")] = 0,
    shrink: Annotated[
        bool, typer.Option(help="Open the space in phases: largest networks, sizes, depth, width.")
    ] = True,
    networks: Annotated[
        int, typer.Option(min=1, help="Networks per step: the largest, the smallest, random ones.")
    ] = 4,
    soft: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=1.0,
            help="In-place distillation: the networks of a step read one batch, and learn by up to this share"
            " from the largest one's predictions. 0: each reads a batch of its own.",
        ),
    ] = 0.0,
    bfloat16: Annotated[bool, typer.Option("--bfloat16", help="Forward and backward in bfloat16.")] = False,
    pieces: Annotated[
        int, typer.Option(min=1, help="Read a batch in so many pieces: less memory, same gradients.")
    ] = 1,
    recompute: Annotated[
        bool, typer.Option("--recompute", help="Compute layers again in the backward pass: less memory.")
    ] = False,
    device: Annotated[str, typer.Option(help="cpu, or cuda:0.")] = "cpu",
    workers: Annotated[int, typer.Option("--workers", "-w", min=1, help="Processes that share a batch.")] = 1,
) -> None:
    """Train one supernet for a space, into a folder that explains itself.

    The same command goes on with a training that was stopped. Afterwards, searches need no training of their
    own.

    Example: nas supernet train laptop -o supernets/laptop
    """
    from evaluators.supernet.evaluator import FromSupernet
    from evaluators.supernet.folder import describe
    from evaluators.supernet.recipe import PHASES, SupernetRecipe
    from evaluators.tasks.base import tasks
    from evaluators.training.execution import Execution
    from evaluators.training.recipe import Recipe
    from nas.study.space_files import load_space
    from search_spaces.language.serialization import to_json

    loaded = load_space(space)
    evaluator = FromSupernet(
        tasks[task].make(data=data, length=length, windows=windows),
        to_json(loaded.root),
        str(output),
        steps,
        seed,
        batch,
        Recipe(
            precision="bfloat16" if bfloat16 else "float32",
            supernet=SupernetRecipe(
                phases=PHASES["shrinking" if shrink else "whole"], networks=networks, soft=soft
            ),
        ),
        Execution(device=device, pieces=pieces, recompute=recompute),
    )
    describe(evaluator, loaded)
    told = _train(evaluator, workers, partial(load_space, space))
    last = told["loss"][-1]
    print_line(
        f"{output}: {steps} steps in {told['seconds']:.0f} s; the largest network is at {last[1]:.3f}"
        f" {evaluator.task.unit} while learning"
    )


def _train(evaluator: Any, workers: int, prepare: Any) -> dict[str, Any]:
    """In this process with a bar, or in several."""
    from evaluators.training.distributed import train_distributed
    from nas.progress import default_progress

    with default_progress().phase("training the supernet", evaluator.steps) as phase:
        if workers > 1:
            train_distributed(evaluator.train, workers, device=evaluator.execution.device, prepare=prepare)
        trained: dict[str, Any] = evaluator.train(lambda step, loss: phase.update(step, f"{loss:.3f}"))
        return trained


@commands.command()
def info(
    folder: Annotated[Path, typer.Argument(help="What `nas supernet train` wrote.", show_default=False)],
    as_json: Json = False,
) -> None:
    """Tell what a supernet's folder holds: space, task, recipe, and how far its training is."""
    from evaluators.supernet.folder import progress, read_about

    about, done = read_about(folder), progress(folder)
    if as_json:
        sys.stdout.write(json.dumps({**about, "progress": done}, indent=1) + "\n")
        return
    space, task, recipe = about["space"], about["task"], about["recipe"]
    supernet = recipe["supernet"]
    phases = ", ".join(phase["name"] for phase in supernet["phases"])
    read = f"distilled by {supernet['soft']:g}" if supernet["soft"] else "each with a batch of its own"
    state = "finished" if done["step"] >= done["steps"] else f"in phase {done['phase']}"
    for line in (
        f"space     {space['name']} ({space['digest']})",
        f"task      {task['name']} ({task['digest']})",
        f"training  {done['step']} of {done['steps']} steps, {state if done['step'] else 'not begun'}",
        f"recipe    phases {phases}; {supernet['networks']} networks a step, {read}; batch {about['batch']};"
        f" seed {about['seed']}; {recipe['precision']}",
        f"weights   {done['file'] or 'none yet'}",
    ):
        print_line(line)
