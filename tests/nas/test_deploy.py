"""The files in `deploy`: Ray accepts the cluster file, and the entrypoint of the RayJob is one of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer

from nas import cli

yaml = pytest.importorskip("yaml")  # Ray needs it, too
ray = pytest.importorskip("ray")

DEPLOY = Path(__file__).parents[2] / "deploy"


def read(name: str) -> Any:
    return yaml.safe_load((DEPLOY / name).read_text())


def checked(command: str) -> None:
    """Read a command's words as the command line does, without running it."""
    program, name, *words = command.split()
    assert program == "nas"
    typer.main.get_command(cli.app).commands[name].make_context(name, words)  # type: ignore[attr-defined]


def test_ray_accepts_the_cluster_file() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = read("ray_cluster.yaml")
    prepared = prepare_config(config)
    validate_config(prepared)
    assert prepared["available_node_types"]["local.cluster.node"]["max_workers"] == 2
    assert len(config["provider"]["worker_ips"]) == config["max_workers"]


def test_every_node_of_the_cluster_file_wants_the_token() -> None:
    config = read("ray_cluster.yaml")
    assert "~/.ray/auth_token" in config["file_mounts"]
    for role in ("head", "worker"):
        *_, start = config[f"{role}_start_ray_commands"]
        assert start.startswith("RAY_AUTH_MODE=token ")
    assert "--include-dashboard=false" in config["head_start_ray_commands"][-1]


def groups(job: Any) -> list[Any]:
    cluster = job["spec"]["rayClusterSpec"]
    return [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]


def test_the_job_runs_a_command_of_ours_with_a_token() -> None:
    job = read("rayjob.yaml")
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    checked(job["spec"]["entrypoint"])
    assert job["spec"]["rayClusterSpec"]["authOptions"] == {"mode": "token"}
    assert job["spec"]["shutdownAfterJobFinishes"]


def test_all_pods_of_the_job_have_one_image_and_the_shared_folder() -> None:
    job = read("rayjob.yaml")
    pods = [group["template"]["spec"] for group in groups(job)]
    containers = [container for pod in pods for container in pod["containers"]]
    assert len({container["image"] for container in containers}) == 1
    for pod, container in zip(pods, containers, strict=True):
        assert container["resources"]["limits"] == container["resources"]["requests"]
        assert {mount["name"] for mount in container["volumeMounts"]} == {
            each["name"] for each in pod["volumes"]
        }
    (workers,) = groups(job)[1:]
    assert workers["minReplicas"] <= workers["replicas"] <= workers["maxReplicas"]


def test_versions_are_those_that_are_tested() -> None:
    pinned = (DEPLOY.parent / "constraints.txt").read_text().split()
    version = read("rayjob.yaml")["spec"]["rayClusterSpec"]["rayVersion"]
    assert f"ray=={version}" in pinned
    assert f"rayproject/ray:{version}-py311" in (DEPLOY / "Dockerfile").read_text()
