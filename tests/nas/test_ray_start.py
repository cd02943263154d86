"""A Ray that does not start says why, and leaves nothing running."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from foundation.errors import ClusterError

ray = pytest.importorskip("ray")

import ray._private.node as ray_node  # noqa: E402
from ray._private import ray_constants  # noqa: E402

from nas.executors import ray_nodes, ray_start  # noqa: E402


def test_a_ray_whose_server_does_not_answer_says_why_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    psutil = pytest.importorskip("psutil")  # Ray brings its own

    def refuses(**_: object) -> None:
        raise RuntimeError("nobody listens there")

    monkeypatch.setattr(ray_node, "GcsClient", refuses)
    monkeypatch.setattr(ray_constants, "NUM_REDIS_GET_RETRIES", 1)
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    why = r"Ray cannot start: .*GCS \(RuntimeError: nobody listens there\)$"
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="r") as files:  # a short path, for sockets
        with pytest.raises(ClusterError, match=why):
            ray_start.start(1, Path(files))
        assert not list(Path(files).iterdir())
    assert {process.pid for process in psutil.Process().children(recursive=True)} <= before


def test_it_starts_with_the_token_of_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("HOME", str(tmp_path))
        ray_nodes.ensure_token()
        ray_nodes.ensure_token()  # where there is one, Ray remembers it
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="r") as files:
        ray_start.end(ray_start.start(1, Path(files)))
