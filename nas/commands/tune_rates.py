"""The command that finds learning rates of blocks: tune-rates."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foundation.settings import MANY, Settings, setting
from nas.commands.groups import SEARCH
from nas.commands.options import PATH, SpaceName
from nas.commands.options_from_settings import Given, with_settings
from nas.commands.output import print_line, print_table
from nas.study.plan import Plan, plan_of

if TYPE_CHECKING:
    from evaluators.rate_sweep import RateSweep
    from evaluators.tasks.base import Task
    from search_spaces.blocks.base import Block


def mount(app: typer.Typer) -> None:
    """Add this command."""
    app.command(rich_help_panel=SEARCH)(tune_rates)


@dataclass(frozen=True, kw_only=True)
class SweepSettings(Settings):
    """What is swept, and for how long."""

    block: tuple[str, ...] = setting(
        (), help="Only blocks of this kind; may be repeated.", metavar="KIND", repeated=True
    )
    steps: int = setting(200, help="Training steps at each rate.", least=10, most=MANY)


@with_settings(SweepSettings, into="sweep")
@with_settings(Plan, ("data", "train_on", "recipe", "seed"))
def tune_rates(
    space: SpaceName,
    *,
    sweep: Given,
    settings: Given,
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
    from evaluators.tasks.language import LanguageModelling
    from foundation.files import write_json
    from nas.rates import swept_blocks
    from nas.study.space_files import load_space
    from search_spaces.devices import require_here

    loaded, wanted = load_space(space), SweepSettings(**sweep)
    plan = plan_of(loaded, settings)
    require_here(plan.train_on)
    blocks = swept_blocks(loaded, wanted.block)
    task = LanguageModelling.make(data=plan.data, length=None, windows=None)
    found, rows = plan.recipe.rates_by_kind, []
    how = {"steps": wanted.steps, "seed": plan.seed, "recipe": plan.recipe, "device": plan.train_on}
    for block in blocks:
        swept = _swept(block, task, **how)
        found[swept.kind] = swept.best
        scores = "  ".join(f"{rate:.2g}: {score:.3f}" for rate, score in swept.scores.items())
        rows.append((swept.kind, f"{type(block).learning_rate:.2g}", f"{swept.best:.2g}", scores))
    print_table(("block", "rate", "best", f"{task.unit} by rate, {wanted.steps} steps"), rows)
    tuned = plan.recipe.with_settings(
        {"block_rates": tuple(f"{kind}={rate:g}" for kind, rate in found.items())}
    )
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
