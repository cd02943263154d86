"""The file that a profile continues from after it was stopped.

It has one JSON value per line: first what was measured where (scenario and fingerprint), then one line for
each measurement, written as soon as it is there. A line that was cut short is measured again.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from foundation.errors import ProfileError
from foundation.files import write_atomically
from hw_profiles.fingerprint import Fingerprint, differences
from search_spaces.scenario import Scenario

FORMAT = "nas samples"


class SampleLog:
    """The measurements of an unfinished profile, on disk where a path is given.

    Raises:
        ProfileError: the file is something else, or of another machine, software or scenario: their samples
            must not be mixed.
    """

    def __init__(self, path: Path | None, scenario: Scenario, machine: Fingerprint) -> None:
        self.path = path
        self.known: dict[str, Any] = {}
        self._head: dict[str, Any] = {
            "format": FORMAT,
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
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        except (OSError, UnicodeDecodeError) as error:
            raise ProfileError(f"{path}: cannot be read: {error}") from error
        whole = [entry for line in lines if (entry := _line(line)) is not None]
        if not whole or whole[0].get("format") != FORMAT:
            raise ProfileError(f"{path} is no samples file of a profile; name another file")
        if len(whole) == 1:  # stopped before anything was measured: there is nothing to mix
            whole = [self._head]
        head = whole[0]
        for what in ("scenario", "fingerprint"):
            changed = differences(head[what], self._head[what])
            if changed:
                raise ProfileError(
                    f"{path} holds samples of another {what}, which must not be mixed with new ones:"
                    f" {changed}; name another file, or remove it"
                )
        self.known = {entry["key"]: entry["value"] for entry in whole[1:]}
        text = "".join(json.dumps(entry) + "\n" for entry in whole)
        write_atomically(path, text)  # without the line that a kill cut short


def _line(text: str) -> dict[str, Any] | None:
    try:
        plain = json.loads(text)
    except ValueError:
        return None
    return plain if isinstance(plain, dict) else None
