"""Ray clusters of a test's own: a head that is started, and gone with the test."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from nas.executors.reach import answers

TOKEN = "0123456789abcdef" * 4


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextmanager
def head(environment: Mapping[str, str]) -> Iterator[str]:
    """The address of a head with two CPUs, which listens on loopback alone."""
    folder, port = Path(tempfile.mkdtemp(prefix="rh", dir="/tmp")), free_port()
    options = ["--head", f"--port={port}", "--node-ip-address=127.0.0.1", "--num-cpus=2", "--block"]
    options += [f"--temp-dir={folder}", "--include-dashboard=false", "--disable-usage-stats"]
    literal = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_TMPDIR": str(folder)}
    process = subprocess.Popen(
        [str(Path(sys.executable).with_name("ray")), "start", *options],
        env={**os.environ, **literal, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        address, end = f"127.0.0.1:{port}", time.monotonic() + 60
        while not answers(address):
            assert process.poll() is None, "the head ended"
            assert time.monotonic() < end, "the head does not answer"
            time.sleep(0.1)
        yield address
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)
