"""From nothing to a front with baselines, by one command: its time on one, two, four GPUs.

    python -m benchmarks.across_gpus.end_to_end --gpus 1 2
    python -m benchmarks.across_gpus.end_to_end --cpu
    python -m benchmarks.across_gpus.end_to_end --gpus 2 --folder /tmp/end    # and again: it goes on

The command is the one that users give, `nas search gpu --workers max --gpu-share 1 ...`, in an environment
that sees so many GPUs. Its time is shared out by what a study consists of: from the first start of a trial of
a stage to the last end; what is left is the latency table, the supernet, and the timing of the front. With a
`--folder` the study of a number of GPUs is kept there, and a command that was cut off is resumed: `calls`
counts them, and times are those of all calls together. Further options of the command go behind `--`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.across_gpus.bench import Bench, parser
from foundation.errors import NasError
from nas.study.baseline_gaps import verdicts
from nas.study.study import Study, open_study
from nas.study.trial import TrialState

VISIBLE = "CUDA_VISIBLE_DEVICES"
NAME = "across"
STAGES = ("search", "final", "baseline", "repeat")
ON_GPUS = ["gpu", "--workers", "max", "--gpu-share", "1", "--trials", "128", "--train-steps", "500"]
ON_GPUS += ["--finalists", "6", "--finalist-steps", "230,690"]
ON_CPU = ["laptop", "--workers", "max", "--trials", "8", "--train-steps", "6", "--window", "32"]
ON_CPU += ["--train-batch", "4", "--validation-windows", "8", "--finalists", "2", "--finalist-steps", "4,8"]
ON_CPU += ["--baseline", "zoo:transformer", "--profile-seconds", "2"]


def words_of(bench: Bench, folder: Path, more: Sequence[str]) -> list[str]:
    """The command: to begin a study in a folder, or to go on with what is there."""
    store = ["--store", str(folder / "studies.db")]
    command = [sys.executable, "-m", "nas.cli"]
    if (folder / "begun.json").exists():
        workers = ["--workers", "max", *([] if bench.cpu else ["--gpu-share", "1"])]
        return [*command, "resume", NAME, *store, *workers]
    return [*command, "search", *(ON_CPU if bench.cpu else ON_GPUS), *more, "--name", NAME, *store, "--yes"]


def run(bench: Bench, gpus: int, folder: Path, more: Sequence[str]) -> dict[str, Any]:
    """Call the command once; what became of the study, and how long it took in all calls."""
    folder.mkdir(parents=True, exist_ok=True)
    words, record = words_of(bench, folder, more), folder / "begun.json"
    before = json.loads(record.read_text()) if record.exists() else {"seconds": 0.0, "calls": 0}
    began, output = time.monotonic(), folder / f"output{before['calls']}.txt"
    with output.open("w") as file:
        process = subprocess.Popen(words, env=_seeing(bench, gpus), stdout=file, stderr=file)
        try:
            code: int | None = process.wait(timeout=max(1.0, min(bench.limit, bench.left)))
        except subprocess.TimeoutExpired:
            process.terminate()  # as Ctrl-C: what was scored is on record, and Ray ends
            process.wait(60)
            code = None
    seconds = before["seconds"] + time.monotonic() - began
    record.write_text(json.dumps({"seconds": seconds, "calls": before["calls"] + 1}))
    lines = [line for line in output.read_text(errors="replace").splitlines() if line.strip()]
    row: dict[str, Any] = {"done": code == 0, "seconds": seconds, "calls": before["calls"] + 1}
    if code not in (0, None):
        row["failed"] = (lines or ["nothing"])[-1][:400]
    try:
        return row | described(open_study(NAME, folder / "studies.db"))
    except NasError as error:
        return row | {"failed": str(error)}


def described(study: Study) -> dict[str, Any]:
    """How far a study is, how long each of its stages took, and what it says of its front."""
    row: dict[str, Any] = {"stages": {}}
    for stage in STAGES:
        ended = [
            t for t in study.trials(stage) if t.finished is not None and t.state is not TrialState.RUNNING
        ]
        if ended:
            took = max(t.finished or 0.0 for t in ended) - min(t.started for t in ended)
            workers = len({t.worker for t in ended} - {"driver"})
            row["stages"][stage] = {"trials": len(ended), "workers": workers, "seconds": took}
    row["front"] = len(study.front()) if row["stages"] else 0
    row["verdicts"] = [str(verdict) for verdict in verdicts(study)]
    return row


def _seeing(bench: Bench, gpus: int) -> dict[str, str]:
    """The environment of a command that sees so many GPUs; a rehearsal sees none."""
    if bench.cpu:
        return {**os.environ, VISIBLE: ""}
    visible = os.environ.get(VISIBLE, ",".join(map(str, range(gpus)))).split(",")
    return {**os.environ, VISIBLE: ",".join(visible[:gpus])}


def main(words: Sequence[str] | None = None) -> None:
    """The command for each number of GPUs, alone on the host."""
    given_words = list(sys.argv[1:] if words is None else words)
    at = given_words.index("--") if "--" in given_words else len(given_words)
    options = parser(__doc__, seconds=580)
    options.set_defaults(limit=580.0)
    options.add_argument("--folder", type=Path, help="where studies are kept, and gone on with")
    given = options.parse_args(given_words[:at])
    bench = Bench("end_to_end", given)
    with tempfile.TemporaryDirectory(prefix="ag", dir="/tmp") as name:
        for gpus in [1] if bench.cpu else bench.gpus:
            if bench.over:
                return
            folder = (given.folder or Path(name)) / str(gpus)
            bench.add({"gpus": gpus, **run(bench, gpus, folder, given_words[at + 1 :])})


if __name__ == "__main__":
    main()
