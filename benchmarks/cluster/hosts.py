"""Two hosts that form a Ray cluster; a search runs across them, and one is cut off in its middle.

    python -m benchmarks.cluster.hosts [TRIALS]

The hosts are network namespaces of this machine with names of their own, joined by a cable (a pair of virtual
Ethernet devices), which needs root and `ip`. Every candidate must have a score in the end: those that were
being scored on the lost host are scored again on the other.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nas
from benchmarks.cluster.napping import NAME
from benchmarks.cluster.progress import ended
from benchmarks.common import keep, show
from nas.study.trial import TrialState

TRIALS = 400
MILLISECONDS = 250
CUT_AT = 0.25
"""The share of the trials that have ended when one host is cut off."""

ADDRESSES = ("10.77.0.1", "10.77.0.2")
PORT = 6379


@dataclass(frozen=True)
class Host:
    """A network namespace with an address, and a folder for its files."""

    name: str
    address: str
    device: str
    folder: Path

    def command(self, *words: str, home: Path) -> subprocess.Popen[str]:
        """A command on this host."""
        named = f'hostname {self.name} && exec "$@"'
        shell = ["ip", "netns", "exec", self.name, "unshare", "--uts", "sh", "-c", named, "sh"]
        environment = {**os.environ, "HOME": str(home), "NAS_CACHE": str(self.folder / "cache")}
        environment["RAY_TMPDIR"] = str(self.folder)
        return subprocess.Popen(
            [*shell, sys.executable, "-m", *words],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *words: str, home: Path) -> str:
        """A command on this host to its end; what it printed."""
        process = self.command(*words, home=home)
        printed, _ = process.communicate(timeout=300)
        assert process.returncode == 0, printed
        return printed

    def cut_off(self) -> None:
        """Pull the cable."""
        _ip("-n", self.name, "link", "set", self.device, "down")


def why_not() -> str:
    """Why there can be no hosts here; empty where there can."""
    if not shutil.which("ip") or not shutil.which("unshare"):
        return "there is no `ip`, or no `unshare`"
    if os.geteuid() != 0:
        return "network namespaces need root"
    name = f"nas-probe-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode:
        return f"network namespaces are refused: {made.stderr.strip()}"
    veth = ["ip", "-n", name, "link", "add", "name", "nvp0", "type", "veth", "peer", "name", "nvp1"]
    joined = subprocess.run(veth, capture_output=True, text=True, check=False)
    _ip("netns", "del", name)
    return f"virtual Ethernet is refused: {joined.stderr.strip()}" if joined.returncode else ""


@contextmanager
def two_hosts(folder: Path) -> Iterator[tuple[Host, Host]]:
    """Two hosts, joined by a cable."""
    hosts = []
    for letter, address in zip("ab", ADDRESSES, strict=True):
        name = f"nas-{letter}-{os.getpid()}"
        (folder / letter).mkdir()
        hosts.append(Host(name, address, f"nv{letter}{os.getpid()}", folder / letter))
    first, other = hosts
    try:
        for host in hosts:
            _ip("netns", "add", host.name)
        cable = ("type", "veth", "peer", "name", other.device, "netns", other.name)
        _ip("link", "add", "name", first.device, "netns", first.name, *cable)
        for host in hosts:
            _ip("-n", host.name, "address", "add", f"{host.address}/24", "dev", host.device)
            for device in ("lo", host.device):
                _ip("-n", host.name, "link", "set", device, "up")
        yield first, other
    finally:
        for host in hosts:
            subprocess.run(["ip", "netns", "del", host.name], capture_output=True, check=False)


def searched(trials: int) -> dict[str, Any]:
    """What became of a search that lost a host."""
    with tempfile.TemporaryDirectory(prefix="nh", dir="/tmp") as name:
        folder = Path(name)
        with two_hosts(folder) as (first, other):
            head = f"{first.address}:{PORT}"
            cpus = ("--cpus", "2", "--gpus", "0")
            up = ("--listen", first.address, "--port", str(PORT), *cpus)
            try:
                first.run("nas.cli", "cluster", "up", *up, home=folder)
                other.run("nas.cli", "cluster", "join", head, *cpus, home=folder)
                return _with_a_cut(first, other, folder, trials)
            finally:
                for host in (other, first):
                    host.run("nas.cli", "cluster", "down", home=folder)


def _with_a_cut(first: Host, other: Host, folder: Path, trials: int) -> dict[str, Any]:
    store = folder / "s.db"
    words = (str(store), f"{first.address}:{PORT}", str(trials), "random", str(MILLISECONDS))
    search = first.command("benchmarks.cluster.napping", *words, home=folder)
    began = time.monotonic()
    while ended(store) < CUT_AT * trials:
        assert search.poll() is None, search.communicate()[0]
        time.sleep(0.2)
    before = ended(store)
    other.cut_off()
    cut = time.monotonic()
    printed, _ = search.communicate(timeout=600)
    study = nas.open(NAME, store=store)
    found = study.trials()
    by_host = Counter(str(trial.worker).partition(":")[0] for trial in found)
    return {
        "trials": len(found),
        "complete": sum(trial.state is TrialState.COMPLETE for trial in found),
        "every number once": sorted(t.number for t in found) == list(range(trials)),
        "ended before the cut": before,
        "scored on the host that stays": by_host[first.name],
        "scored on the host that is cut off": by_host[other.name],
        "exit code": search.returncode,
        "seconds before the cut": round(cut - began),
        "seconds after the cut": round(time.monotonic() - cut),
        "told": [line for line in printed.splitlines() if "Ray actor" in line],
    }


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def main(words: Sequence[str] = ()) -> None:
    """Run it, print what came of it, and keep it."""
    if reason := why_not():
        sys.exit(f"no hosts here: {reason}")
    trials = int(words[0]) if words else TRIALS
    row = searched(trials)
    told = row.pop("told")
    show("A search that loses a host", [{"what": name, "found": value} for name, value in row.items()])
    for line in told:
        print(line)
    keep("cluster_hosts", f"python -m benchmarks.cluster.hosts {trials}", [row], told=told)


if __name__ == "__main__":
    main(sys.argv[1:])
