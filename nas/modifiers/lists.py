"""Lists of modifiers as users write them: texts, objects, and files that hold a list of both."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from foundation.errors import FileError, SettingError, told_of
from foundation.files import parse_json, read_json, real_path
from foundation.settings import describe
from nas.modifiers.base import Modifier, modifier_of
from search_spaces.language.walk import open_values

MOST_MODIFIERS = 64

NONE = "none"
"""What stands for an empty list, where a study had another one."""

LIST_SUFFIX = ".json"
"""How the name of a file ends that holds a list."""


def modifiers_of(wanted: Sequence[Modifier | str]) -> tuple[Modifier, ...]:
    """The modifiers of a list; texts describe one each, as `prune,pattern=2:4` or as a JSON object.

    Raises:
        SettingError: there are none, too many, or a value of one is left open.
    """
    if isinstance(wanted, (str, Modifier)) or not 1 <= len(wanted) <= MOST_MODIFIERS:
        raise SettingError(f"modifiers are a list of 1 to {MOST_MODIFIERS}, got {wanted!r:.80}")
    chosen = tuple(each if isinstance(each, Modifier) else _of_text(each) for each in wanted)
    if left_open := next(open_values(chosen), None):
        raise SettingError(f"{left_open[0]} is left open: close the modifiers first, as a space is closed")
    return chosen


def read_modifiers(path: str | Path) -> tuple[Modifier, ...]:
    """The modifiers of a JSON file: a list of texts such as "quantize,bits=4", or of objects with a name.

    Raises:
        SettingError: the file cannot be read, or holds something else.
    """
    try:
        plain = read_json(path)
    except FileError as error:
        raise SettingError(str(error)) from None
    if not isinstance(plain, list) or not all(isinstance(each, (str, dict)) for each in plain):
        raise SettingError(f'{path} holds no list of modifiers, such as ["prune,pattern=2:4", "quantize"]')
    with told_of(str(path), SettingError):
        return modifiers_of([each if isinstance(each, str) else Modifier.from_plain(each) for each in plain])


def texts_of(wanted: Iterable[Modifier | str] | Modifier | str) -> tuple[str, ...]:
    """A list of modifiers as texts that mean the same anywhere: what files held, folders as whole paths.

    The word `none` by itself is the empty list.

    Raises:
        SettingError: one cannot be read.
    """
    given = [wanted] if isinstance(wanted, (str, Modifier)) else list(wanted)
    texts: list[str] = []
    if given == [NONE]:
        return ()
    for each in given:
        if isinstance(each, str) and each.endswith(LIST_SUFFIX):
            texts += map(_text_of, read_modifiers(each))
            continue
        (modifier,) = modifiers_of([each])
        texts.append(each if isinstance(each, str) and not modifier.folders else _text_of(modifier))
    return tuple(texts)


def line_of(modifier: Modifier) -> str:
    """A modifier for readers: its name, and the settings that are not usual."""
    plain = modifier.to_plain()
    unusual = {d.name: plain[d.name] for d in describe(type(modifier)) if _is_unusual(modifier, d)}
    return ",".join([modifier.name, *(f"{name}={_shown(value)}" for name, value in unusual.items())])


def _is_unusual(modifier: Modifier, described: Any) -> bool:
    return bool(getattr(modifier, described.name) != described.default)


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def _of_text(text: Any) -> Modifier:
    if not isinstance(text, str) or not text.lstrip().startswith("{"):
        if text == NONE:
            raise SettingError(f"{NONE} is the empty list, and stands alone: leave it out, or the others")
        with told_of(f"modifier {text!r:.80}", SettingError):
            return modifier_of(text)
    try:
        plain = parse_json(text)
    except ValueError:
        raise SettingError(f"{text!r:.80} is no JSON object that describes a modifier") from None
    with told_of(f"modifier {text!r:.80}", SettingError):
        return Modifier.from_plain(plain)


def _text_of(modifier: Modifier) -> str:
    plain = modifier.to_plain()
    whole = {name: real_path(value) for name, value in plain.items() if value in modifier.folders}
    return json.dumps({**plain, **whole}, separators=(",", ":"))
