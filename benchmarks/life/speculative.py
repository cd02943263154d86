"""The table of drafts of a network: how often each is right, what it costs, and what the best one is worth.

    python -m benchmarks.life.speculative FOLDER [--draft NAME,SETTING=VALUE]... [--new-tokens N]

FOLDER is an exported network. It goes on with windows of its text, once taking the likeliest token and once
drawing at temperature 0.8; the drafts are those that need nothing, and those that are named. Times are those
of a machine that may have other work: the ratios of one run belong together, no more.
"""

from __future__ import annotations

import argparse
from typing import Any

from benchmarks.common import keep, show
from nas.modifiers.settings import ModificationSettings
from nas.serving.draft_settings import DraftSettings
from nas.serving.draft_table import DraftTable, choices, draft_table
from nas.serving.drafts.base import Draft
from nas.training.start import start_of

COMMAND = "python -m benchmarks.life.speculative"
TEMPERATURES = (0.0, 0.8)


def rows_of(table: DraftTable, temperature: float) -> list[dict[str, Any]]:
    """A row for each draft, at its best number of tokens."""
    rows = []
    for row in table.rows:
        ms = {k: row.ms_per_token(k, table.verify_ms) for k in range(1, len(table.verify_ms))}
        k = min(ms, key=lambda k, ms=ms: ms[k])  # type: ignore[misc]
        rows.append(
            {
                "temperature": temperature,
                "draft": row.draft.line,
                "right": row.acceptance,
                "tokens": k,
                "tokens a pass": row.tokens(k),
                "times as fast": table.step_ms / ms[k],
                "bytes": row.bytes,
            }
        )
    return rows


def best_of(table: DraftTable, temperature: float) -> dict[str, Any]:
    """The exact engine's choice, and how many times as fast it makes the network: predicted and measured."""
    return {
        "temperature": temperature,
        "best": "none" if table.best is None else table.best.line,
        "predicted": table.predicted[0] / table.predicted[1],
        "measured": table.measured[0] / table.measured[1],
    }


def main() -> None:
    """Run, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--draft", action="append", default=[])
    parser.add_argument("--new-tokens", type=int, default=64)
    chosen = parser.parse_args()
    network = start_of(chosen.folder).model
    tokens = ModificationSettings().make_task().validation()[0]
    rows, best = [], []
    for temperature in TEMPERATURES:
        asked = DraftSettings(new_tokens=chosen.new_tokens, temperature=temperature)
        tried = [*choices(network), *map(Draft.from_line, chosen.draft)]
        prompts = tokens[: asked.prompts, : asked.prompt_tokens].tolist()
        table = draft_table(network, prompts, tried, asked)
        rows += rows_of(table, temperature)
        best.append(best_of(table, temperature))
    show("drafts", rows)
    show("the best", best)
    count = sum(weight.numel() for weight in network.parameters())
    command = " ".join([COMMAND, "FOLDER", *(f"--draft {d.split('=')[0]}=..." for d in chosen.draft)])
    keep("speculative", command, rows, best=best, parameters=count, network=str(network.spec))


if __name__ == "__main__":
    main()
