"""The command that finds learning rates of blocks: tune-rates."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas.commands.groups import SEARCH
from nas.commands.options import PATH, SpaceName
from nas.commands.output import print_line, print_table

if TYPE_CHECKING:
    from evaluators.rate_sweep import RateSweep
    from evaluators.tasks.base import Task
    from search_spaces.blocks.base import Block


def mount(app: typer.Typer) -> None:
    """Add this command."""
    app.command(rich_help_panel=SEARCH)(tune_rates)


def tune_rates(
    space: SpaceName,
    *,
    kinds: Annotated[
        list[str] | None,
        typer.Option("--block", metavar="KIND", help="Only this kind; may be repeated.", show_default=False),
    ] = None,
    steps: Annotated[int, typer.Option(min=10, max=10**6, help="Training steps at each rate.")] = 200,
    data: Annotated[
        str | None, typer.Option(help="Text to learn from: a folder or a file.", show_default=False)
    ] = None,
    train_on: Annotated[str, typer.Option(help="Where to train: cpu, or cuda:0.")] = "cpu",
    recipe: Annotated[
        str, typer.Option(metavar="NAME|FILE.json", help="The recipe to begin with.")
    ] = "default",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-O", **PATH, help="Where to write the recipe.", show_default="SPACE.recipe.json"
        ),
    ] = None,
) -> None:
    """Find the learning rates at which the blocks of a space learn best, and write them into a recipe.

    Blocks of the library have been swept; a block of one's own begins with a rate that suits most. Each kind
    is trained in a small network at five rates or more: about a minute a kind on a CPU. Rates of one width
    hold at all others.

    Example: nas tune-rates mine.py --block MyMixer, then nas search mine.py --recipe mine.recipe.json
    """
    from evaluators.tasks.language import ByteLanguageModelling
    from evaluators.training.recipe import Recipe
    from foundation.files import write_json
    from nas.rates import swept_blocks
    from nas.study.space_files import load_space
    from search_spaces.devices import require_here

    loaded, given = load_space(space), Recipe.from_word(recipe)
    require_here(train_on)
    blocks = swept_blocks(loaded, kinds or ())
    task = ByteLanguageModelling.make(data=data, length=None, windows=None)
    found, rows = given.rates_by_kind, []
    for block in blocks:
        sweep = _swept(block, task, steps=steps, recipe=given, device=train_on)
        found[sweep.kind] = sweep.best
        scores = "  ".join(f"{rate:.2g}: {score:.3f}" for rate, score in sweep.scores.items())
        rows.append((sweep.kind, f"{type(block).learning_rate:.2g}", f"{sweep.best:.2g}", scores))
    print_table(("block", "rate", "best", f"{task.unit} by rate, {steps} steps"), rows)
    tuned = given.with_settings({"block_rates": tuple(f"{kind}={rate:g}" for kind, rate in found.items())})
    path = output or Path(f"{loaded.name}.recipe.json")
    write_json(path, tuned.to_plain())
    print_line(f"{path} holds the recipe: nas search {space} --recipe {path}")


def _swept(block: Block, task: Task, **settings: Any) -> RateSweep:
    """The sweep of a block, with its progress."""
    from evaluators.rate_sweep import POINTS, sweep_rates
    from nas.progress import Terminal

    with Terminal().bar(f"rates of {type(block).__name__}", len(POINTS)) as bar:
        tried = count(1)

        def on_score(rate: float, score: float | None) -> None:
            told = "diverged" if score is None else f"{score:.3f} {task.unit}"
            bar.update(min(next(tried), len(POINTS)), f"{rate:.2g}: {told}")

        return sweep_rates(block, task, on_score=on_score, **settings)
