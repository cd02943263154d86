"""The command that lists drafts, or tries them on a network: drafts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from foundation.errors import SettingError
from nas.commands.catalogue import catalogue
from nas.commands.groups import CATALOGUE
from nas.commands.lists import list_or_explain
from nas.commands.options import SourceFile, Store, TrustCode
from nas.commands.options_from_settings import Given, with_settings
from nas.commands.output import print_line, print_table
from nas.default_paths import DEFAULT_STORE
from nas.modifiers.settings import TextSettings
from nas.serving.draft_settings import DraftSettings
from search_spaces.network.decoder import Decoder
from search_spaces.scenario import Scenario

if TYPE_CHECKING:
    from nas.serving.draft_table import DraftTable
    from nas.serving.drafts.base import Draft


def mount(app: typer.Typer) -> None:
    """Add this command."""
    app.command(rich_help_panel=CATALOGUE)(drafts)


@with_settings(TextSettings, into="text")
@with_settings(DraftSettings)
def drafts(
    name: Annotated[
        str | None, typer.Argument(help="One draft, with its settings.", show_default=False)
    ] = None,
    *,
    text: Given,
    settings: Given,
    network: Annotated[
        str | None,
        typer.Option(help="Try drafts on this network: an exported folder, or zoo:NAME.", show_default=False),
    ] = None,
    draft: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[,SETTING=VALUE...]",
            help="A further draft. Repeat it for several.",
            show_default=False,
        ),
    ] = None,
    study: Annotated[
        str | None, typer.Option(help="Smaller networks on this study's front, too.", show_default=False)
    ] = None,
    trust_code: TrustCode = False,
    space: SourceFile = None,
    store: Store = DEFAULT_STORE,
) -> None:
    """List what proposes tokens for a network to verify (`--draft`), explain one, or try them on a network.

    With --network, all drafts that need nothing, and those that are named, are asked along texts that the
    network writes: how often each is right, what it takes, and how many tokens at a time are best. The best
    of all within --memory is found exactly, and then run and timed.

    Example: nas drafts --network winner --draft network,folder=small --new-tokens 128
    """
    from nas.serving.drafts.base import drafts as registered

    if network is None:
        if draft or study:
            raise SettingError("--draft and --study are tried on a network: name one (--network)")
        list_or_explain(catalogue(registered, None), name, "--draft {},")
        return
    if name is not None:
        raise SettingError(f"--network tries all drafts: leave {name!r} out, or write --draft {name}")
    _print(_table(network, (draft or [], study), (text, settings), (trust_code, space, store)))


def _table(
    what: str, further: tuple[list[str], str | None], given: tuple[Any, Any], begin: Any
) -> DraftTable:
    """Try the drafts on the network that the words name."""
    from nas.serving.draft_table import choices, draft_table
    from nas.serving.drafts.base import Draft
    from nas.study.task import check_tokens
    from nas.training.start import start_of

    (lines, study), (text, settings), (trust_code, space, store) = further, given, begin
    asked = DraftSettings(**settings)
    start = start_of(what, store=store, space=space, trust_code=trust_code)
    known = {key: start.settings[key] for key in ("task", "data", "window") if key in start.settings}
    task = TextSettings(**{**known, **text}).make_task()
    check_tokens(start.tokenizer, task)
    tokens = task.validation()[0]
    if len(tokens) < asked.prompts or tokens.shape[1] < asked.prompt_tokens:
        raise SettingError(
            f"{asked.prompts} prompts of {asked.prompt_tokens} tokens are more than the text has:"
            f" {len(tokens)} windows of {tokens.shape[1]}"
        )
    tried = [*choices(start.model), *map(Draft.from_line, lines)]
    if study is not None:
        tried += _subnets(study, start.model.spec, store)
    prompts = tokens[: asked.prompts, : asked.prompt_tokens].tolist()
    return draft_table(start.model, prompts, tried, asked)


def _subnets(study: str, network: Decoder, store: str) -> list[Draft]:
    """The networks on the front of a study that have fewer parameters."""
    from nas.serving.drafts.subnet import Subnet
    from nas.study.open_study import open_study

    opened, most = open_study(study, store), network.cost(Scenario()).params
    smaller = [t for t in opened.front() if opened.spec(t).cost(Scenario()).params < most]
    return [Subnet(study=study, trial=trial.digest, store=store) for trial in smaller]


def _print(table: DraftTable) -> None:
    """A row for each draft at its best number of tokens, and what the best one is worth."""
    head = ("draft", "right", "tokens", "tokens a pass", "ms a token", "times", "added MB")
    rows = []
    for row in table.rows:
        counts = range(1, len(table.verify_ms))
        k = min(counts, key=lambda k, row=row: row.ms_per_token(k, table.verify_ms))  # type: ignore[misc]
        ms = row.ms_per_token(k, table.verify_ms)
        rows.append(
            (
                row.draft.line,
                f"{100 * row.acceptance:.0f} %",
                str(k),
                f"{row.tokens(k):.2f}",
                f"{ms:.3f}",
                f"{table.step_ms / ms:.2f}",
                f"{row.bytes / 1e6:.1f}",
            )
        )
    rows.append(("without a draft", "", "", "1.00", f"{table.step_ms:.3f}", "1.00", ""))
    print_table(head, rows)
    if table.best is None:
        print_line("no draft pays")
        return
    before, after = table.measured
    print_line(
        f"best: --draft {table.best.line}: predicted {table.predicted[0] / table.predicted[1]:.2f} times as"
        f" fast; measured {before / after:.2f}, {before:.3f} -> {after:.3f} ms a token"
    )
