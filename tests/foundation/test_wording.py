"""Settings in messages: arguments in Python, options on the command line."""

from __future__ import annotations

from typing import Any

import pytest

from foundation.wording import argument, as_options


@pytest.mark.parametrize(
    ("name", "given", "python", "command"),
    [
        ("train_steps", {}, "train_steps", "--train-steps"),
        ("train_steps", {"value": 3}, "train_steps=3", "--train-steps 3"),
        ("strict_table", {"value": True}, "strict_table=True", "--strict-table"),
        ("guard", {"value": False}, "guard=False", "--no-guard"),
        ("train_on", {"value": "cuda:0"}, "train_on='cuda:0'", "--train-on cuda:0"),
        ("finalist_steps", {"value": (3, 9)}, "finalist_steps=(3, 9)", "--finalist-steps 3,9"),
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
