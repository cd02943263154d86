"""What another machine must time for a latency table, as a folder: programs, a list of calls, one script.

    write_bundle(space, scenario, "bundle")        # with engine=executorch or engine=onnxruntime
    sh bundle/run.sh                               # there: no more than the runtime is needed
    table_of_bundle("bundle")                      # here again

The same networks and parts are timed as by `profile_space`, but all of them are chosen beforehand, and what
is timed is what that machine's runtime takes, without a calibration kernel: it should have nothing else to
do. A runtime can be carried if this folder has a script of its name.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from foundation.errors import FileError, ProfileError
from foundation.files import require_room, write_atomically, write_json
from foundation.scratch import scratch_folder
from foundation.wording import argument
from hw_profiles.latency.correction import Accuracy, Correction
from hw_profiles.latency.parts import part_calls, parts_in
from hw_profiles.latency.profiler import chosen_networks
from hw_profiles.latency.records import Provenance
from hw_profiles.latency.runnable import legal_parts
from hw_profiles.latency.selection import coarse_grid, usage_in
from hw_profiles.latency.session import ProgressCallback
from hw_profiles.latency.table import FORMAT as TABLE_FORMAT
from hw_profiles.runtimes.base import check_scenario, runtime_of, runtimes
from hw_profiles.runtimes.exported import Carried, carried
from hw_profiles.timing.measure import network_calls
from hw_profiles.timing.rounds import TimedCall
from hw_profiles.timing.timings import READINGS
from hw_profiles.timing.versions import VERSION as VERSION_OF_TIMES
from search_spaces.language.serialization import to_plain
from search_spaces.language.space import Space, as_space
from search_spaces.network.model import build
from search_spaces.scenario import Scenario

BUNDLE, CALLS, THREADS, RUN, SAMPLES = "bundle.json", "calls", "threads", "run.sh", "samples.jsonl"
FORMAT, VERSION = "nas profile bundle", 2
"""In version 1 the scripts timed a decode step as the mean of three."""

MOST_PARTS = 80
"""Parts that are carried, unless more are needed for every part to be reckoned."""

HERE = Path(__file__).parent


def check_carried(scenario: Scenario, folder: str | Path) -> None:
    """Refuse at once what would otherwise end a bundle after minutes.

    Raises:
        SettingError: the scenario cannot be run, what converts models is not installed, or the folder is not
            empty.
        ProfileError: its runtime cannot be carried.
    """
    check_scenario(scenario)
    if not _script(scenario.engine).is_file():
        known = " or ".join(f"engine={name}" for name in sorted(runtimes) if _script(name).is_file())
        raise ProfileError(
            f"{argument('bundle')}: engine {scenario.engine} cannot be carried elsewhere: use {known}"
        )
    runtime_of(scenario).check_installed()
    require_room(Path(folder), "a bundle")


def write_bundle(
    space: Space | Any,
    scenario: Scenario,
    folder: str | Path,
    *,
    seed: int = 0,
    seconds: float = 45.0,
    progress: ProgressCallback = lambda stage, done, total: None,
) -> int:
    """Write a bundle into a folder, which is absent or empty; how many programs are timed.

    `seconds` say how many networks are taken, as in a profile that has so many. A folder appears whole or not
    at all; conversions are kept, so a bundle that was stopped is soon where it was.

    Raises:
        SettingError, ProfileError: see `check_carried`; no network of the space can be run.
        FileError: the folder cannot be written.
    """
    check_carried(scenario, folder)
    space, folder = as_space(space), Path(folder).absolute()
    every, illegal = legal_parts(parts_in(space), scenario, progress, seed=seed)
    chosen = chosen_networks(space, every, seconds, seed, illegal)
    least, more = coarse_grid(every, usage_in(space, frozenset(), seed), scenario, seed)
    parts = [*least, *more][: max(len(least), MOST_PARTS)]
    table = {
        "format": TABLE_FORMAT,
        "version": VERSION_OF_TIMES,
        "space": {"name": space.name, "digest": space.digest},
        "scenario": scenario.to_json(),
        "illegal": illegal,
        "provenance": asdict(Provenance(created=datetime.now(UTC).isoformat(timespec="seconds"))),
        "readings": {
            name: {"correction": asdict(Correction()), "accuracy": asdict(Accuracy(0))} for name in READINGS
        },
        "networks": [
            {"held_out": index >= chosen.fitted, "spec": to_plain(spec)}
            for index, spec in enumerate(chosen.specs)
        ],
        "entries": [{"part": part.to_plain()} for part in parts],
    }
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with scratch_folder(folder.parent) as scratch:
            new = scratch / "new"
            (new / "programs").mkdir(parents=True)
            total, calls = len(chosen.specs) + len(parts), list[dict[str, Any]]()
            with torch.no_grad(), carried():
                for number, (where, timed) in enumerate(_timed(chosen.specs, parts, scenario, seed)):
                    progress(f"converting for {scenario.engine}", number, total)
                    calls += [_call(where, name, each, new) for name, each in timed.items()]
            _write(new, scenario, {"table": table, "versions": _versions(scenario), "calls": calls})
            new.rename(folder)
    except OSError as error:
        raise FileError(f"cannot write {folder}: {error.strerror or error}") from error
    return len(calls)


def _timed(
    specs: Any, parts: Any, scenario: Scenario, seed: int
) -> Iterator[tuple[tuple[str, int], Mapping[str, TimedCall]]]:
    """What is timed of every network and part, by its place in the table."""
    for index, spec in enumerate(specs):
        yield ("networks", index), network_calls(build(spec, seed=seed), scenario, seed=seed)
    for index, part in enumerate(parts):
        yield ("entries", index), part_calls(part, scenario, seed=seed)


def _call(where: tuple[str, int], name: str, timed: TimedCall, folder: Path) -> dict[str, Any]:
    """One call of the list; its program is copied."""
    call = timed.call
    assert isinstance(call, Carried)
    program = f"programs/{call.path.name}"
    if not (folder / program).exists():
        shutil.copyfile(call.path, folder / program)
    inputs = [_input(each) for each in call.inputs]
    return {"of": list(where), "name": name, "file": program, "inputs": inputs, "repeats": timed.repeats}


def _input(tensor: Tensor) -> dict[str, Any]:
    """Type and shape of an input, and the values of tokens and positions."""
    about = {"dtype": str(tensor.dtype).removeprefix("torch."), "shape": list(tensor.shape)}
    return about | ({"values": tensor.flatten().tolist()} if tensor.dtype is torch.long else {})


def _write(folder: Path, scenario: Scenario, bundle: Mapping[str, Any]) -> None:
    """The list of calls for a program and for a shell, and the script."""
    write_json(folder / BUNDLE, {"format": FORMAT, "version": VERSION, **bundle})
    lines = [f"{i} {call['file']} {call['repeats']}\n" for i, call in enumerate(bundle["calls"])]
    write_atomically(folder / CALLS, "".join(lines))
    write_atomically(folder / THREADS, f"{scenario.threads}\n")
    shutil.copyfile(_script(scenario.engine), folder / RUN)
    program = _script(scenario.engine).with_suffix(".py")
    if program.is_file():
        shutil.copyfile(program, folder / "run.py")


def _versions(scenario: Scenario) -> dict[str, str]:
    return {"torch": torch.__version__, **runtime_of(scenario).versions()}


def _script(engine: str) -> Path:
    return HERE / f"{engine}.sh"
