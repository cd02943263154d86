"""The command that prepares text for searches: corpus."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evaluators.tokens.preparation import Preparation
from nas.commands.groups import SEARCH
from nas.commands.options import PATH
from nas.commands.options_from_settings import Given, with_settings
from nas.commands.output import print_line, print_note

if TYPE_CHECKING:
    from evaluators.corpus import Corpus


def mount(app: typer.Typer) -> None:
    """Add this command."""
    app.command(rich_help_panel=SEARCH)(corpus)


Data = Annotated[
    str,
    typer.Argument(
        metavar="PATH",
        help="Text: a folder or a file. Documents: .parquet, .jsonl, a folder of such, or hf:NAME, a data set"
        " of the Hugging Face hub.",
        show_default=False,
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        help="The folder to write; without it, one in the cache.",
        show_default=False,
        **PATH,
    ),
]


@with_settings(Preparation)
def corpus(data: Data, *, settings: Given, output: Output = None) -> None:
    """Prepare text for `--data`, once: read documents, and turn text into the tokens of a tokenizer.

    Scores stay bits per byte of the text, so searches with several tokenizers can be compared. The same words
    find what is there already; whoever is stopped begins again, and leaves nothing.

    Example: nas corpus books/ --tokenizer train:8000 -o books-8k

    Example: nas corpus shards/ --text-field content --tokenizer tokenizer.json
    """
    from evaluators.reading import told_while_reading
    from evaluators.tokens.preparation import prepare

    wanted = Preparation(**settings)
    with told_while_reading(print_note):
        made = prepare(data, wanted, output)
    _print(made, wanted)


def _print(made: Corpus, wanted: Preparation) -> None:
    from evaluators.tokens.token_corpus import TokenCorpus
    from foundation.text import size

    parts = f"{size(made.train_bytes)} of text for training and {size(made.valid_bytes)} for validation"
    if not isinstance(made, TokenCorpus):
        print_line(f"{made.name}, {made.digest}: {parts}, as bytes")
        print_line(f"search with it: nas search SPACE --data {made.folder}")
        return
    print_line(
        f"{made.name}, {made.digest}: {parts}, as {made.train_tokens:,} and {made.valid_tokens:,} of"
        f" {made.tokens:,} tokens, {made.train_bytes_per_token:.2f} bytes each"
    )
    if (asked := wanted.trained_size) and made.tokens < asked:
        print_note(f"the text has pairs for {made.tokens:,} tokens only, fewer than the {asked:,} asked for")
    if not made.lossless:
        print_note(
            "the tokenizer does not give back all of the text (it normalises, or lacks characters): networks"
            " need not predict what it leaves out, so compare their scores under this tokenizer alone"
        )
    print_line(f"search with it: nas search SPACE --vocab data --data {made.folder}")
