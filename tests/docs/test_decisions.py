"""Decisions have numbers of their own, and say them in their headings."""

from __future__ import annotations

import re

from tests.docs.pages import ROOT


def test_decisions_have_numbers_of_their_own() -> None:
    paths = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
    numbers = [path.name[:4] for path in paths]
    assert [number for number in numbers if numbers.count(number) > 1] == []
    for path in paths:
        heading = path.read_text().splitlines()[0]
        assert re.match(rf"# {int(path.name[:4])}\. ", heading), f"{path.name} begins with {heading!r}"
