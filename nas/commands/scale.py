"""The command that grows a network of a study into a family: scale."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from nas.commands.groups import MODELS
from nas.commands.options import SourceFile, Store, StudyName, Yes
from nas.commands.options_from_settings import Given, with_settings
from nas.commands.output import print_line, print_table
from nas.commands.search import work_on
from nas.default_paths import DEFAULT_STORE
from nas.executors.workers import Workers
from nas.scaling.settings import ScalingSettings

if TYPE_CHECKING:
    from nas.scaling.scale import Family
    from nas.study.study import Study


def mount(app: typer.Typer) -> None:
    """Add this command."""
    app.command(rich_help_panel=MODELS)(scale)


Which = Annotated[str, typer.Argument(help="A trial's number, the beginning of its digest, or `best`.")]


@with_settings(ScalingSettings)
@with_settings(Workers, into="workers")
def scale(
    study: StudyName,
    trial: Which,
    *,
    settings: Given,
    workers: Given,
    space: SourceFile = None,
    store: Store = DEFAULT_STORE,
    yes: Yes = False,
) -> None:
    """Grow a network into a family at 2, 4, 8 times its cost, by compound scaling (EfficientNet).

    A small grid of laws shares a doubling of the cost among depth (stacked or stretched), width and state;
    the best network at twice the cost gives the law. Members are within 10 % of their cost, are trained from
    scratch by the study's recipe, and measured. Can be stopped and repeated.

    Example: nas scale first 12 --factors 2,4,8 --by prefill_flops
    """
    from nas.commands.consent import with_consent
    from nas.progress import Terminal
    from nas.scaling.scale import scale_network
    from nas.study.open_study import open_study

    wanted, pool = ScalingSettings(**settings), Workers(**workers)
    work_on(study)
    opened = open_study(study, store, read_only=False)  # an old store is brought up to date
    whole = opened.with_source(space)
    chosen = whole.trial(trial)
    family = with_consent(
        lambda agreed: scale_network(whole, chosen, wanted, pool, Terminal(), yes=agreed), yes
    )
    _print(whole, family, wanted)


def _print(study: Study, family: Family, settings: ScalingSettings) -> None:
    from nas.study.plan_objectives import quality_name

    quality = quality_name(study.plan)
    print_line(f"law of {len(family.grid)} tried: {family.law}")
    measured = study.measured()
    rows = []
    for member in family.members:
        values = {**member.trial.values, **measured.get(member.trial.digest, {})}
        shown = [str(values[name]) if name in values else "" for name in (quality, "params", "decode_ms")]
        rows.append(
            (
                f"x {member.factor:g}",
                f"x {member.cost:.2f}",
                member.trial.digest,
                *shown,
                study.layers(member.trial),
            )
        )
    print_table(("asked", settings.by, "digest", quality, "params", "decode_ms", "layers"), rows)
    print_line(f"after {family.steps} steps each; nas export {study.name} DIGEST -o DIR exports one")
