"""Commands about supernets as folders of their own: `nas supernet train`, `nas supernet info`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evaluators.supernet.recipe import SupernetRecipe
from evaluators.supernet.shrinking import SHRINKING
from evaluators.training.execution import Execution
from evaluators.training.recipe import Recipe
from foundation.errors import SettingError
from foundation.files import require_room
from foundation.settings import MANY, Settings, setting
from nas.commands.groups import SEARCH
from nas.commands.options import PATH, Json, SpaceName, Yes
from nas.commands.options_from_settings import Given, with_settings
from nas.commands.output import print_json, print_line
from nas.study.plan import Plan, plan_of

if TYPE_CHECKING:
    from evaluators.supernet.evaluator import FromSupernet
    from search_spaces.language.space import Space

commands = typer.Typer(
    help="Train weights for a whole space once; search them many times.", no_args_is_help=True
)


def mount(app: typer.Typer) -> None:
    """Add these commands."""
    app.add_typer(commands, name="supernet", rich_help_panel=SEARCH)


@dataclass(frozen=True, kw_only=True)
class SupernetTraining(Settings):
    """What differs from the training of a study's own supernet: more steps, and phases."""

    train_steps: int = setting(1000, help="Training steps.", least=1, most=MANY)
    processes: int = setting(1, help="Data-parallel processes.", least=1, most=10**4, short="p")
    task: str = setting("language", help="What is learned: language or recall.")
    recipe: Recipe = setting(
        Recipe(supernet=SupernetRecipe(phases=SHRINKING)),
        help="How weights are learned: a ready-made recipe (`nas recipes`) or FILE.json, and single settings"
        " of it, e.g. supernet.networks=3, supernet.distill=0.5 or precision=bfloat16. Where no recipe is"
        " named, with progressive shrinking, unless supernet.phases=whole.",
        metavar="NAME|FILE|SETTING=VALUE",
        repeated=True,
    )


@commands.command()
@with_settings(Plan, ("train_batch", "window", "validation_windows", "data", "seed", "train_on"))
@with_settings(SupernetTraining, into="training")
@with_settings(Execution, ("accumulate", "checkpoint_activations", "compile_seconds"), into="execution")
def train(
    space: SpaceName,
    *,
    settings: Given,
    training: Given,
    execution: Given,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The folder to write.", show_default=False, **PATH)
    ],
    yes: Yes = False,
) -> None:
    """Train one supernet for a space, into a self-describing folder.

    The same command continues a training that was stopped. Afterwards, searches need no training of their
    own.

    Example: nas supernet train laptop -o supernets/laptop
    """
    from evaluators.supernet.folder import describe, is_supernet
    from evaluators.training.distributed import check_processes
    from nas.commands.consent import with_consent
    from nas.study.space_files import load_space
    from nas.study.task import with_vocab_of_data
    from search_spaces.devices import require_here
    from search_spaces.network.vocabulary import with_vocab

    if not output.name:
        raise SettingError(
            f"--output {output} names nothing: name a folder, e.g. supernets/{Path(space).stem}"
        )
    require_room(output, "a supernet", is_supernet, replaces=True)  # its training goes on
    loaded = load_space(space)
    plan = with_vocab_of_data(plan_of(loaded, settings))
    loaded = with_vocab(loaded, plan.vocab)
    trained_by = SupernetTraining(**training)
    how = Execution.for_supernet(plan.train_on, trained_by.train_steps, **execution)
    check_processes(trained_by.processes, plan.train_on, plan.train_batch)
    require_here(plan.train_on)
    evaluator = _evaluator(loaded, output, plan, trained_by, how)
    with_consent(partial(_require_consent, loaded, evaluator), yes)
    prepared = evaluator.training(loaded)  # what can be refused is, before anything is written
    describe(evaluator, loaded)
    trained = _train(evaluator, prepared, trained_by.processes, partial(_load, space, plan.vocab))
    last = trained["loss"][-1]
    print_line(
        f"{output}: {evaluator.steps} steps in {trained['seconds']:.0f} s; the largest network is at"
        f" {last[1]:.3f} {evaluator.task.unit} while learning"
    )


def _load(space: str, vocab: int | None) -> Space:
    """The space, in a process of its own."""
    from nas.study.space_files import load_space
    from search_spaces.network.vocabulary import with_vocab

    return with_vocab(load_space(space), vocab)


def _evaluator(
    space: Space, folder: Path, plan: Plan, training: SupernetTraining, execution: Execution
) -> FromSupernet:
    """The supernet that these settings ask for, as far as it was trained."""
    from evaluators.supernet.evaluator import FromSupernet
    from evaluators.tasks.base import tasks
    from search_spaces.language.serialization import to_json

    return FromSupernet(
        tasks[training.task].make(data=plan.data, length=plan.window, windows=plan.validation_windows),
        to_json(space.root),
        str(folder),
        training.train_steps,
        plan.seed,
        plan.train_batch,
        training.recipe.on(execution.device),
        execution,
        space.name,
    )


def _require_consent(space: Space, evaluator: FromSupernet, yes: bool) -> None:
    """Raise `ConsentNeeded` where the training would take very long, or more memory than there is."""
    from nas.study.forecast import Work, largest_of, of_supernet

    how = evaluator.execution
    work = Work(largest=largest_of(space), length=evaluator.task.length, device=how.device)
    forecast = of_supernet(work, evaluator.recipe, evaluator.steps, evaluator.batch, pieces=how.accumulate)
    forecast.require_consent(yes)


def _train(evaluator: Any, prepared: Any, workers: int, prepare: Any) -> dict[str, Any]:
    """In this process with a bar, or in several, each of which prepares the space for itself."""
    from evaluators.training.distributed import train_distributed
    from nas.progress import default_progress

    train = partial(evaluator.train, open_space=prepare)
    pace = prepared.pace
    with default_progress().bar("training the supernet", evaluator.steps) as bar:

        def on_step(step: int, loss: float) -> None:
            pace.add()
            bar.update(step, f"{loss:.3f}, {pace}")

        if workers > 1:
            device = evaluator.execution.device
            train_distributed(train, workers, device=device, prepare=prepare, on_step=on_step)
        trained: dict[str, Any] = evaluator.train(on_step, training=prepared)
        return trained


@commands.command()
def info(
    folder: Annotated[
        Path, typer.Argument(help="What `nas supernet train` wrote.", show_default=False, **PATH)
    ],
    as_json: Json = False,
) -> None:
    """Print what a supernet's folder holds: space, task, recipe, and how far its training is.

    Its weights are read and compared with their hash; what is damaged is refused.
    """
    from evaluators.supernet.folder import read_about, verified_progress

    about, done = read_about(folder), verified_progress(folder)
    if as_json:
        print_json({**about, "progress": done})
        return
    space, task, recipe = about["space"], about["task"], about["recipe"]
    supernet = recipe["supernet"]
    phases = ", ".join(phase["name"] for phase in supernet["phases"])
    read = f"distilled by {supernet['distill']:g}" if supernet["distill"] else "each with a batch of its own"
    state = "finished" if done["step"] >= done["steps"] else f"in phase {done['phase']}"
    for line in (
        f"space     {space['name']} ({space['digest']})",
        f"task      {task['name']} ({task['digest']})",
        f"training  {done['step']} of {done['steps']} steps, {state if done['step'] else 'not begun'}",
        f"recipe    phases {phases}; {supernet['networks']} networks a step, {read}; batch {about['batch']};"
        f" seed {about['seed']}; {recipe['precision']}",
        f"weights   {done['file'] + ', whole by its hash' if done['file'] else 'none yet'}",
    ):
        print_line(line)
