"""Profiles for machines without this project: what is written, run there by a shell, and read again."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from foundation.errors import ProfileError, SettingError
from hw_profiles.bundles import onnxruntime as runner
from hw_profiles.bundles.reading import table_of_bundle
from hw_profiles.bundles.writing import BUNDLE, SAMPLES, check_carried, write_bundle
from hw_profiles.latency.table import LatencyTable
from hw_profiles.runtimes import exported
from hw_profiles.runtimes.base import runtimes
from nas import cli
from tests.hw_profiles.tiny import SCENARIO, registered, small_space

RUNNER = """#!/bin/sh
file=${1#--model_path=}
took=$(wc -c < $file).5
echo "I 00:00:00.004 executorch:executor_runner.cpp:292] Model executed successfully 1 time(s) in $took ms."
"""
ELSEWHERE = replace(SCENARIO, engine="executorch")


@pytest.fixture
def light(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """ExecuTorch without ExecuTorch: programs are as many bytes as layers, ten times."""
    runtime: Any = type(runtimes["executorch"])

    def write(self: Any, program: Any, inputs: Sequence[Tensor], path: Path, few: Any) -> None:
        path.write_bytes(bytes(10 * len(program.model.spec.layers)))

    monkeypatch.setenv("NAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(exported, "exported", lambda module, inputs: module)
    monkeypatch.setattr(runtime, "not_installed", lambda self: "")
    monkeypatch.setattr(runtime, "versions", lambda self: {"executorch": "1.0"})
    monkeypatch.setattr(runtime, "write", write)
    monkeypatch.setattr(runtime, "load", lambda self, path, scenario: path)
    monkeypatch.setattr(runtime, "bound", lambda self, loaded, inputs: lambda: None)
    with registered():
        yield


@pytest.fixture
def bundle(light: None, tmp_path: Path) -> Path:
    heard: list[str] = []
    count = write_bundle(
        small_space(),
        ELSEWHERE,
        tmp_path / "bundle",
        seconds=0,
        progress=lambda what, done, total: heard.append(what),
    )
    assert count == len((tmp_path / "bundle/calls").read_text().splitlines()) > 20
    assert "converting for executorch" in heard
    return tmp_path / "bundle"


def run(folder: Path, rounds: int = 2) -> subprocess.CompletedProcess[str]:
    (folder / "executor_runner").write_text(RUNNER)
    (folder / "executor_runner").chmod(0o755)
    environment = {"PATH": "/usr/bin:/bin", "ROUNDS": str(rounds)}
    return subprocess.run(["sh", folder / "run.sh"], env=environment, capture_output=True, text=True)


def test_a_shell_times_a_bundle_and_its_table_is_read(bundle: Path) -> None:
    with pytest.raises(ProfileError, match=r"samples\.jsonl: no such file \(sh run\.sh writes it\)"):
        table_of_bundle(bundle)
    done = run(bundle)
    assert done.returncode == 0, done.stderr
    table = table_of_bundle(bundle)
    assert table.fingerprint["platform"] == subprocess.check_output(["uname", "-sm"], text=True).strip()
    assert table.provenance.rounds == 2
    assert not table.missing(small_space())
    for found in table.networks:
        assert found.measured["prefill_ms"].median_ms == 10 * len(found.spec.layers) + 0.5
    inner = [each["prefill_ms"].median_ms for part, each in table.entries.items() if part.block is not None]
    assert inner == [10.0] * len(inner)  # of what three copies take longer than one
    table.save(bundle / "table.json")
    again = LatencyTable.load(bundle / "table.json", allow_other_machine=True)
    assert again.to_plain() == table.to_plain()


def test_what_a_bundle_must_not_hold_is_refused_in_a_line(bundle: Path) -> None:
    assert run(bundle).returncode == 0
    good = (bundle / SAMPLES).read_text()
    for bad, says in (
        (good.replace('"repeats": 1,', '"repeats": 0,', 1), "repeats must be at least 1"),
        (good.replace("[10.5", '["a"', 1), "must be a number"),
        (good.replace("[10.5", "[1e400", 1), "line"),
        (good + "[" * 500, "line"),
        (
            "\n".join(line for line in good.splitlines() if '"call": 3,' not in line),
            "1 of .* have no samples",
        ),
    ):
        (bundle / SAMPLES).write_text(bad)
        with pytest.raises(ProfileError, match=says) as error:
            table_of_bundle(bundle)
        assert "\n" not in str(error.value)
    (bundle / SAMPLES).write_text(good)
    plain = json.loads((bundle / BUNDLE).read_text())
    (bundle / BUNDLE).write_text(json.dumps({**plain, "version": 1}))
    with pytest.raises(ProfileError, match="no bundle of version 2: write it again, with `nas profile SPACE"):
        table_of_bundle(bundle)
    plain["table"]["entries"][1]["part"]["d_model"] = -1
    (bundle / BUNDLE).write_text(json.dumps(plain))
    with pytest.raises(ProfileError, match="d_model must be at least 1"):
        table_of_bundle(bundle)


def test_a_runner_that_is_missing_or_fails_is_told(bundle: Path) -> None:
    done = subprocess.run(["sh", bundle / "run.sh"], capture_output=True, text=True)
    assert (done.returncode, "EXECUTOR_RUNNER" in done.stderr) == (2, True)
    failing = {"PATH": "/usr/bin:/bin", "EXECUTOR_RUNNER": "/bin/false"}
    done = subprocess.run(["sh", bundle / "run.sh"], env=failing, capture_output=True, text=True)
    assert done.returncode == 1
    assert "was not run by /bin/false" in done.stderr
    assert not (bundle / SAMPLES).exists()


def test_bundles_are_for_runtimes_that_can_be_carried_and_free_folders(light: None, tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"engine eager cannot be carried .* use engine=executorch or"):
        check_carried(SCENARIO, tmp_path / "bundle")
    (tmp_path / "notes").write_text("")
    with pytest.raises(SettingError, match="is not empty: choose another folder for a bundle"):
        check_carried(ELSEWHERE, tmp_path)


@pytest.mark.usefixtures("light")
def test_the_commands_write_and_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NAS_TABLES", str(tmp_path / "tables"))
    space = tmp_path / "space.py"
    space.write_text("from tests.hw_profiles.tiny import small_space\n\nspace = small_space()\n")
    scenario = "phone=cpu,engine=executorch,prompt=8,new_tokens=4,threads=1"
    folder = tmp_path / "phone"
    assert (
        cli.run(
            ["profile", str(space), "--scenario", scenario, "--profile-seconds", "0", "--bundle", str(folder)]
        )
        == 0
    )
    assert run(folder).returncode == 0
    capsys.readouterr()
    assert cli.run(["profile", "import", str(folder)]) == 0
    assert "imported as phone" in capsys.readouterr().out


def test_the_runner_for_onnx_runtime_times_programs(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    kinds = onnx.TensorProto
    inputs = [
        onnx.helper.make_tensor_value_info("x", kinds.FLOAT, [2, 3]),
        onnx.helper.make_tensor_value_info("i", kinds.INT64, [1]),
    ]
    output = onnx.helper.make_tensor_value_info("y", kinds.FLOAT, [1, 3])
    nodes = [onnx.helper.make_node("Gather", ["x", "i"], ["y"], axis=0)]
    graph = onnx.helper.make_graph(nodes, "g", inputs, [output])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=10)
    onnx.save(model, tmp_path / "x.onnx")
    call = {
        "file": "x.onnx",
        "repeats": 3,
        "inputs": [
            {"dtype": "float32", "shape": [2, 3]},
            {"dtype": "int64", "shape": [1], "values": [1]},
        ],
    }
    about = {"table": {"scenario": {"threads": 1}}, "calls": [call]}
    (tmp_path / "bundle.json").write_text(json.dumps(about))
    runner.main(tmp_path, 2)
    head, *lines = map(json.loads, (tmp_path / SAMPLES).read_text().splitlines())
    assert head["machine"]["onnxruntime"]
    assert [line["call"] for line in lines] == [0, 0]
    assert all(line["repeats"] == 3 and min(line["ms"]) >= 0 for line in lines)
