"""Latency tables, device cards and samples files that hold nonsense, or are no files."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hw_profiles.fingerprint import fingerprint
from hw_profiles.latency.parts import parts_in
from hw_profiles.latency.session import part_key
from hw_profiles.roofline.cards import FOLDER
from hw_profiles.timing.versions import VERSION
from search_spaces.scenario import Scenario
from tests.faults.campaign import Case
from tests.faults.situations import TINY_SPACE, changed, tiny_space, tiny_table
from tests.forks import Ended

NAN, INFINITE = float("nan"), float("inf")
SAMPLES = "entries.1.decode_ms.samples_ms"

NONSENSE: list[tuple[str, str, Any, str]] = [
    ("negative times", SAMPLES, [-1.0, -2.0, -3.0], r"entries\[1\]\.decode_ms\.samples_ms must be positive"),
    ("zero times", SAMPLES, [0, 0, 0], "must be positive and finite, got 0"),
    ("a time that is not a number", f"{SAMPLES}.1", NAN, "NaN is no number"),
    ("an infinite time", f"{SAMPLES}.1", INFINITE, "Infinity is no number"),
    ("a time beyond all numbers", f"{SAMPLES}.1", 10**39, r"samples_ms\[1\] must be at most 1e\+09"),
    ("a time of 400 digits", f"{SAMPLES}.1", 10**400, "a number of 401 digits"),
    ("a time in words", f"{SAMPLES}.1", "5.0", r"samples_ms\[1\] must be a number, got '5.0'"),
    ("a time that is true", f"{SAMPLES}.1", True, "must be a number, got True"),
    ("a time in a list", f"{SAMPLES}.1", [5.0], "must be a number, got a list of 1"),
    ("no times", SAMPLES, [], "must be a list of at least 1, got 0 entries"),
    ("times without a list", SAMPLES, 5.0, "must be a list, got 5.0"),
    (
        "a negative time of a network",
        "networks.0.prefill_ms.samples_ms.0",
        -1.0,
        r"networks\[0\].*at least 0",
    ),
    ("a median that is not that of the times", "entries.0.decode_ms.median_ms", -3, "is not the median"),
    ("a count that is not that of the times", "entries.0.decode_ms.n", 99, "is not the number of samples"),
    ("a negative error", "readings.decode_ms.accuracy.mape", -0.1, r"accuracy\.mape must be at least 0"),
    ("an error that is not a number", "readings.decode_ms.accuracy.mape", NAN, "NaN is no number"),
    ("an error in words", "readings.decode_ms.accuracy.mape", "5 %", "must be a number, got '5 %'"),
    ("a rank correlation of two", "readings.decode_ms.accuracy.tau", 2, "must be at most 1"),
    ("a negative count of networks", "readings.decode_ms.accuracy.n", -1, "must be at least 0"),
    ("a negative scale", "readings.decode_ms.correction.scale", -1.0, r"correction\.scale must be positive"),
    ("no scale", "readings.decode_ms.correction.scale", None, "lacks 'scale'"),
    ("a factor of nothing", "readings.decode_ms.correction.factors.Attention", 0, "must be positive"),
    (
        "a GPU that is a path",
        "fingerprint.gpu",
        "../../etc/passwd",
        "fingerprint.gpu must be a name, not a path",
    ),
    ("a GPU that is an absolute path", "fingerprint.gpu", "/dev/null", "a name, not a path"),
    ("a CPU without a name", "fingerprint.cpu_model", "", "must be text, not empty"),
    ("a CPU of 10,000 letters", "fingerprint.cpu_model", "x" * 10_000, "at most 200 characters, got 10,000"),
    ("a CPU that writes to the terminal", "fingerprint.cpu_model", "\x1b[2J", "without control characters"),
    ("a machine that is a list", "fingerprint", [], "fingerprint must be an object"),
    ("no cores", "fingerprint.cores", 0, "fingerprint.cores must be at least 1"),
    ("a device that is a path", "scenario.device", "../cpu", "scenario.device"),
    ("a device that no table can be of", "scenario.device", "mps", "scenario.device"),
    ("a runtime that nobody knows", "scenario.engine", "steam", "steam"),
    ("a batch of nothing", "scenario.batch", 0, "batch must be at least 1"),
    ("a scenario with more fields", "scenario.hidden", 1, "no setting 'hidden'"),
    ("another format", "format", "nas latency tables", "expected nas latency table"),
    ("a format of later", "version", 3, "of version 2, got"),
    ("times of before", "version", 1, "a table of before, whose decode steps"),
    ("a version in words", "version", "2", "of version 2, got"),
    ("no parts", "entries", None, "it lacks 'entries'"),
    ("parts by name", "entries", {}, "entries must be a list"),
    ("a part without a block", "entries.1.part.block", None, "either a block or a vocab"),
    ("a part of an unknown block", "entries.1.part.block.type", "Atention", "did you mean 'Attention'"),
    (
        "a part that is a network",
        "entries.1.part.block",
        {"type": "Decoder", "d_model": 4, "layers": []},
        "no block",
    ),
    ("a part of no width", "entries.1.part.d_model", 0, r"part\.d_model must be at least 1"),
    ("a part of an absurd width", "entries.1.part.d_model", 10**12, r"part\.d_model must be at most"),
    ("a part of half a width", "entries.1.part.d_model", 16.5, "must be a whole number, got 16.5"),
    ("a part with 7 bits", "entries.1.part.state_bits", 7, "known widths"),
    ("a part with more fields", "entries.1.part.colour", 1, "has no field 'colour'"),
    ("a part with a norm of nothing", "entries.1.part.norm", 3, "it is no norm"),
    ("a part with a head of nothing", "entries.1.part.head", 3, "it is no head"),
    ("a network that is a number", "networks.0.spec", 5, "it is no network"),
    ("a network of negative width", "networks.0.spec.d_model", -4, "d_model must be a positive integer"),
    ("a note of a megabyte", "provenance.notes", ["x" * 2**20], "at most 2,000 characters"),
    ("a reference of nothing", "provenance.reference_ms", 0, r"reference_ms must be positive"),
    ("negative seconds", "provenance.seconds", -1, r"provenance\.seconds must be at least 0"),
]


def tables(command: str, name: str, *, chosen: int = 1, **more: Any) -> list[Case]:
    """A command with every so many of the tables that hold nonsense."""
    return [
        Case(
            f"{name}: {what}",
            command,
            says=says,
            files={"t.json": json.dumps(tiny_table([(place, value)])), "good.json": json.dumps(tiny_table())},
            **more,
        )
        for what, place, value, says in NONSENSE[::chosen]
    ]


def _deep(depth: int) -> str:
    return '{"format": "nas latency table", "version": 2, "entries": ' + "[" * depth + "]" * depth + "}"


def _sparse(name: str) -> Callable[[Path], None]:
    """A file of a gigabyte that takes no disk."""

    def make(folder: Path) -> None:
        with (folder / name).open("wb") as file:
            file.truncate(2**30)

    return make


def _turning(name: str) -> Callable[[Path], None]:
    return lambda folder: os.symlink(name, folder / name)


NO_FILES: list[tuple[str, dict[str, Any], str]] = [
    ("a pipe", {"prepare": lambda at: os.mkfifo(at / "t.json")}, "is a pipe, not a file"),
    ("a device", {"prepare": lambda at: os.symlink("/dev/zero", at / "t.json")}, "is a device, not a file"),
    ("a folder", {"prepare": lambda at: (at / "t.json").mkdir()}, "is a folder, not a file"),
    ("a link to itself", {"prepare": _turning("t.json")}, "cannot be read: Too many levels"),
    ("a link to nothing", {"prepare": lambda at: os.symlink("gone", at / "t.json")}, "no such file"),
    ("a gigabyte", {"prepare": _sparse("t.json")}, "is too large"),
    ("an empty file", {"files": {"t.json": ""}}, "not JSON"),
    ("half a file", {"files": {"t.json": json.dumps(tiny_table())[:2000]}}, "damaged or not JSON"),
    ("bytes that are no text", {"files": {"t.json": b"\xff\xfe\x00{}"}}, "not text in UTF-8"),
    ("a number", {"files": {"t.json": "5"}}, "not a"),
    ("nothing", {"files": {"t.json": "null"}}, "not a"),
    ("nested a hundred thousand deep", {"files": {"t.json": _deep(100_000)}}, "nested deeper"),
    (
        "millions of parts",
        {
            "files": {
                "t.json": '{"format": "nas latency table", "version": 2, "entries": ['
                + "{}," * 2**21
                + "{}]}"
            }
        },
        "",
    ),
    ("a name twice", {"files": {"t.json": '{"format": 1, "format": 2}'}}, "'format' is there twice"),
]

CARD = json.loads((FOLDER / "h100-sxm.json").read_text())
CARDS: list[tuple[str, str, Any, str]] = [
    ("a negative rate", "flops.float32", -1.0, "flops.float32 must be positive and finite, got -1.0"),
    ("an infinite rate", "bandwidth", INFINITE, "Infinity is no number"),
    ("a rate in words", "bandwidth", "fast", "bandwidth must be a number, got 'fast'"),
    ("a rate of 39 digits", "bandwidth", 10**39, "bandwidth must be at most"),
    ("an unknown dtype", "flops.float31", 1e9, "float31"),
    ("rates in a list", "flops", [1e9], "flops must be an object"),
    ("no rates", "flops", {}, "no peak for float32"),
    ("a kind of its own", "kind", "tpu", "kind must be one of cpu, cuda"),
    ("a kind in a list", "kind", ["cuda"], "kind must be one of cpu, cuda"),
    ("a name that is a path", "name", "../../x", "name must be a name, not a path"),
    ("a title that writes to the terminal", "title", "\x1b]0;x\x07", "without control characters"),
    ("measured in words", "measured", "yes", "measured must be true or false"),
    ("matches without a list", "matches", "H100", "matches must be a list"),
    ("a field more", "flopps", 1, "did you mean 'flops'"),
    ("half a byte", "memory_bytes", 0.5, "memory_bytes must be a whole number"),
    ("negative memory", "memory_bytes", -8, "memory_bytes must be at least 1"),
    ("sources in a list", "sources", [], "sources must be an object"),
    ("no sources", "sources", {}, "no source is given for flops"),
    ("no bandwidth", "bandwidth", None, "lacks 'bandwidth'"),
    ("a launch that takes no time", "launch_us", 0, "launch_us must be positive"),
    ("a format of later", "version", 2, "not a nas device card of version 1"),
]


def _samples(*lines: Any) -> str:
    """A samples file of this machine with these lines, as a profile that was stopped leaves it."""
    scenario = Scenario()
    head = {
        "format": "nas samples",
        "version": VERSION,
        "scenario": scenario.conditions(),
        "fingerprint": fingerprint(scenario),
    }
    return "".join(json.dumps(line) + "\n" for line in (head, *lines))


PART = part_key(parts_in(tiny_space())[1])
MEASURED = {
    reading: {"ratios": [1.0, 1.1], "walls": [1.0, 1.1]} for reading in ("prefill_ms", "decode_ms")
} | {"around": {"prefill_ms": 0.5, "decode_ms": 0.5}}

LOGS: list[tuple[str, Any, str]] = [
    (
        "a sample that is not a number",
        {"key": PART, "value": changed(MEASURED, [("decode_ms.ratios.0", "1")])},
        r"ratios\[0\] must be a number, got '1'",
    ),
    (
        "no samples",
        {"key": PART, "value": changed(MEASURED, [("decode_ms.walls", [])])},
        "walls must be a list of at least 1",
    ),
    (
        "a sample beyond all numbers",
        {"key": PART, "value": changed(MEASURED, [("decode_ms.ratios.0", 1e99)])},
        r"line 2.*must be at most 1e\+09",
    ),
    ("no reading", {"key": PART, "value": changed(MEASURED, [("prefill_ms", None)])}, "lacks 'prefill_ms'"),
    ("no overhead", {"key": PART, "value": changed(MEASURED, [("around", None)])}, "lacks 'around'"),
    ("a part that is none", {"key": "part/5", "value": MEASURED}, "must be an object"),
    ("a part that is no JSON", {"key": "part/{", "value": MEASURED}, "line 2.value"),
    (
        "a calibration of nothing",
        {"key": "calibration/0", "value": [[0, 0]]},
        "must be positive and finite, got 0",
    ),
    ("a calibration of three", {"key": "calibration/0", "value": [[1, 1, 1]]}, "a list of at most 2"),
    ("negative seconds", {"key": "seconds", "value": -5}, "must be at least 0, got -5"),
    ("seconds in a list", {"key": "seconds", "value": []}, "must be a number"),
    ("a disturbance of numbers", {"key": "disturbed/0", "value": 5}, "must be text"),
    ("a key of something else", {"key": "colour", "value": 5}, "no profile keeps 'colour'"),
    ("a key that is a number", {"key": 5, "value": 5}, "line 2.key must be text"),
    ("no value", {"key": "seconds"}, "line 2 lacks 'value'"),
]

ARGUMENTS: list[tuple[str, str, str]] = [
    ("probe of a GPU that is not there", "devices --measure-peaks cuda:99", "cuda:99"),
    ("probe of a GPU without a number", "devices --measure-peaks cuda:x", "cuda"),
    ("probe of a core", "devices --measure-peaks cpu:1", "cpu"),
    ("probe of nothing", ["devices", "--measure-peaks", ""], "device"),
    ("probe of a path", "devices --measure-peaks ../cpu", "device"),
    ("probe with more threads than cores", "devices --measure-peaks cpu --threads 100000", "threads"),
    ("a card without a probe", "devices -o card.json", "--measure-peaks"),
    ("an estimate of another card", "search laptop --name a --roofline h100-smx", "did you mean 'h100-sxm'"),
    ("a profile into a folder", "profile laptop -o .", "is a folder"),
    ("a profile of nothing", "profile nowhere -o t.json", "nowhere"),
    ("a profile of endless time", "profile laptop --profile-seconds inf", "seconds must be finite"),
    ("a profile of negative time", "profile laptop --profile-seconds -1", "seconds must be at least 0"),
    (
        "a profile of no time that is a number",
        "profile laptop --profile-seconds nan",
        "seconds must be finite",
    ),
    ("a profile with an option that is none", "profile laptop --samples 5", "No such option"),
    ("a profile on a GPU that is not there", "profile laptop --scenario cuda:99", "GPU"),
    ("a profile of an unknown device", "profile laptop --scenario device=toaster", "toaster"),
    ("a profile from an unknown table", "profile laptop --from nowhere", "no table 'nowhere'"),
    ("a merge of one", "profile merge t.json -o u.json", "two tables or more"),
    ("an import under a path", "profile import good.json --name ../x", "needs a name"),
    ("an import under nothing", ["profile", "import", "good.json", "--name", ""], "needs a name"),
    (
        "an import under a long name",
        ["profile", "import", "good.json", "--name", "x" * 10_000],
        "at most 100",
    ),
    ("a comparison with nothing", "profile diff good.json nowhere", "no table 'nowhere'"),
    ("an export into a file as a folder", "profile export good.json -o good.json/t.json", "cannot write"),
]


def _lists_the_good(folder: Path, ended: Ended) -> None:
    assert "good" in ended.stdout
    assert "unreadable" in ended.stdout


CASES = [
    Case(
        "a whole table is imported",
        "profile import good.json",
        code=0,
        says="imported as good",
        files={"good.json": json.dumps(tiny_table())},
        lines=0,
    ),
    Case(
        "one bad table in the library does not hide the others",
        "profile list",
        code=0,
        files={
            "studies/tables/good.json": json.dumps(tiny_table([("space.name", "[/] [red]")])),
            "studies/tables/bad.json": json.dumps(tiny_table([(SAMPLES, [-1.0])])),
        },
        check=_lists_the_good,
        lines=0,
    ),
    *tables("profile import t.json", "import"),
    *tables("search laptop --name a --latency-table t.json", "search", chosen=5),
    *tables("profile diff good.json t.json", "diff", chosen=7),
    *tables("profile merge good.json t.json -o out.json", "merge", chosen=7),
    *tables("profile export t.json -o out.json", "export", chosen=9),
    *[
        Case(f"{name}: the table is {what}", command, says=says, **more)
        for name, command, every in (
            ("import", "profile import t.json", 1),
            ("search", "search laptop --name a --latency-table t.json", 3),
            ("estimate", "search laptop --name a --roofline t.json", 2),
            ("similar", "profile laptop --from t.json -o out.json", 4),
        )
        for what, more, says in NO_FILES[::every]
    ],
    *[
        Case(
            f"estimate: a card with {what}",
            "search laptop --name a --roofline card.json --scenario cuda",
            says=says,
            files={"card.json": json.dumps(changed(CARD, [(place, value)]))},
        )
        for what, place, value, says in CARDS
    ],
    *[
        Case(
            f"samples with {what}",
            "profile tiny.py -o table.json",
            says=says,
            files={"tiny.py": TINY_SPACE, "table.partial.json": _samples(line)},
        )
        for what, line, says in LOGS
    ],
    *[
        Case(f"arguments: {what}", command, says=says, files={"good.json": json.dumps(tiny_table())}, lines=8)
        for what, command, says in ARGUMENTS
    ],
]
