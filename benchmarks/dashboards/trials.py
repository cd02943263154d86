"""Large studies that a search could have left: networks of a made-up one, with values drawn around theirs.

So fronts are as small as they are in a search.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

from nas.store import Store
from tests.dashboards.made import make_study

STUDY = "large"
NAMES = ("bits_per_byte", "decode_ms", "weight_bytes")
"""The objectives of the study; less is better of each."""


def made_store(folder: Path, trials: int, seed: int = 0) -> Path:
    """A store with one study of so many distinct scored networks."""
    path, dice = folder / f"studies-{trials}.db", Random(seed)
    with Store(path) as store:
        make_study(store, STUDY, trials=60, complete=False, objectives=NAMES)
    with closing(sqlite3.connect(path)) as connection, connection:
        names = [row[1] for row in connection.execute("PRAGMA table_info(trials)")]
        rows = connection.execute("SELECT * FROM trials WHERE state = 'complete'").fetchall()
        known = [_Pattern(dict(zip(names, row, strict=True))) for row in rows]
        connection.execute("DELETE FROM trials")
        fill = f"INSERT INTO trials VALUES ({', '.join('?' * len(names))})"
        connection.executemany(fill, (dice.choice(known).varied(number, dice) for number in range(trials)))
    return path


class _Pattern:
    """A trial of which others are made, its values as a text with places for numbers."""

    def __init__(self, row: dict[str, Any]) -> None:
        self.row, values = row, json.loads(row["values_json"])
        self.numbers = [value["value"] for value in values.values()]
        for place, value in enumerate(values.values()):
            value["value"] = f"<{place}>"
            value.pop("samples", None)
        text = json.dumps(values).replace("%", "%%")
        for place in range(len(values)):
            text = text.replace(f'"<{place}>"', "%r")
        self.text = text

    def varied(self, number: int, dice: Random) -> tuple[Any, ...]:
        values = tuple(value * (1.0 + abs(dice.gauss(0, 0.3))) for value in self.numbers)
        news = {
            "number": number,
            "revision": number + 1,
            "digest": f"{number:012x}",
            "values_json": self.text % values,
            "reused": None,
        }
        return tuple({**self.row, **news}.values())


def points_of(path: Path) -> list[tuple[dict[str, Any], tuple[float, ...]]]:
    """The genes and the objectives of every trial in a store."""
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT genotype_json, values_json FROM trials ORDER BY number")
        found = []
        for genes, text in rows:
            values = json.loads(text)
            found.append((json.loads(genes), tuple(values[name]["value"] for name in NAMES)))
    return found
