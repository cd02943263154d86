"""Settings in messages: arguments in Python, options on the command line."""

from __future__ import annotations

from typing import Any

import pytest

from foundation.wording import argument, as_options


@pytest.mark.parametrize(
    ("name", "given", "python", "command"),
    [
        ("steps", {}, "steps", "--steps"),
        ("steps", {"value": 3}, "steps=3", "--steps 3"),
        ("strict_table", {"value": True}, "strict_table=True", "--strict-table"),
        ("guard", {"value": False}, "guard=False", "--no-guard"),
        ("device", {"value": "cuda:0"}, "device='cuda:0'", "--device cuda:0"),
        ("rungs", {"value": (3, 9)}, "rungs=(3, 9)", "--rungs 3,9"),
        ("objectives", {"option": "objective"}, "objectives", "--objective"),
    ],
)
def test_a_setting_is_written_for_its_reader(
    name: str, given: dict[str, Any], python: str, command: str
) -> None:
    assert argument(name, **given) == python
    with as_options():
        assert argument(name, **given) == command
    assert argument(name, **given) == python
