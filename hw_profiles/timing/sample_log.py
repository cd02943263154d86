"""The file that a profile continues from after it was stopped.

It has one JSON value per line: first what was measured where (scenario and fingerprint), then one line for
each measurement, written as soon as it is there. A line that was cut short is measured again.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from foundation.errors import FileError, NasError, ProfileError
from foundation.fields import Field
from foundation.files import parse_json, read_bytes, write_atomically
from hw_profiles.fingerprint import Fingerprint, differences, read_fingerprint
from hw_profiles.timing.versions import VERSION, outdated
from search_spaces.scenario import Scenario

FORMAT = "nas samples"

LOG_BYTES = 12 * 2**20
"""The largest samples file: some 5,000 parts with all their samples."""

LONGEST_KEY = 2**20
"""Characters of a key: a whole network may stand in it."""


class SampleLog:
    """The measurements of an unfinished profile, on disk where a path is given.

    `check` is called with the key and the value of every measurement that is read, and raises for what the
    profile never writes.

    Raises:
        ProfileError: the file is something else, or of another machine, software, scenario or way to time:
            their samples must not be mixed; or it holds what is no measurement.
    """

    def __init__(
        self,
        path: Path | None,
        scenario: Scenario,
        machine: Fingerprint,
        check: Callable[[str, Field], None] | None = None,
    ) -> None:
        self.path, self.check = path, check
        self.known: dict[str, Any] = {}
        self._head: dict[str, Any] = {
            "format": FORMAT,
            "version": VERSION,
            "scenario": scenario.conditions(),
            "fingerprint": machine,
        }
        if path is None:
            return
        if path.exists():
            self._restore(path)
        else:
            write_atomically(path, json.dumps(self._head) + "\n")

    def add(self, key: str, value: Any) -> None:
        """Keep one measurement."""
        self.known[key] = value
        if self.path is not None:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"key": key, "value": value}) + "\n")

    def remove(self) -> None:
        """Remove the file: the profile is finished."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    def _restore(self, path: Path) -> None:
        try:
            lines = read_bytes(path, at_most=LOG_BYTES).decode("utf-8").splitlines()
        except (FileError, UnicodeDecodeError) as error:
            raise ProfileError(f"{error}; name another file" if path.is_file() else str(error)) from error
        whole = [(number, entry) for number, line in enumerate(lines, 1) if (entry := _line(line))]
        if not whole or whole[0][1].get("format") != FORMAT:
            raise ProfileError(f"{path} is no samples file of a profile; name another file")
        if len(whole) == 1:  # stopped before anything was measured: there is nothing to mix
            whole = [(1, self._head)]
        try:
            self._require_same(Field(whole[0][1]))
            self.known = dict(
                self._measurement(Field(entry, f"line {number}")) for number, entry in whole[1:]
            )
        except ProfileError:
            raise
        except NasError as error:
            raise ProfileError(f"{path}: {error}; remove it to measure again") from error
        text = "".join(json.dumps(entry) + "\n" for _, entry in whole)
        write_atomically(path, text)  # without the line that a kill cut short

    def _require_same(self, head: Field) -> None:
        """Refuse samples of other circumstances."""
        scenario = Scenario.from_plain(
            {name: field.plain for name, field in head["scenario"].items(most=100)}
        )
        there = {"scenario": scenario.conditions(), "fingerprint": read_fingerprint(head["fingerprint"])}
        for what, then in there.items():
            if changed := differences(then, self._head[what]):
                raise ProfileError(
                    f"{self.path} holds samples of another {what}, which must not be mixed with new ones:"
                    f" {changed}; name another file, or remove it"
                )
        if why := outdated(head.get("version", 1).plain, scenario):
            raise ProfileError(f"{self.path} holds samples of before, {why}; name another file, or remove it")

    def _measurement(self, line: Field) -> tuple[str, Any]:
        key, value = line["key"].text(most=LONGEST_KEY), line["value"]
        if self.check is not None:
            self.check(key, value)
        return key, value.plain


def _line(text: str) -> dict[str, Any] | None:
    try:
        plain = parse_json(text)
    except ValueError:
        return None
    return plain if isinstance(plain, dict) else None
