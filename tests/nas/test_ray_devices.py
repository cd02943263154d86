"""Devices of a Ray cluster: tables are measured there and the front is timed there; what is lost is told."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from foundation.errors import ProfileError, SettingError, UnknownName
from hw_profiles.fingerprint import fingerprint
from hw_profiles.latency.table import LatencyTable
from nas.commands import devices as listing
from nas.executors import cluster
from nas.executors import ray_devices as devices
from nas.steps.measure import measure_trials, packed_model, unpacked_model
from nas.study.plan import Plan
from nas.study.space_files import load_space
from nas.study.study import Study
from nas.tables.study_tables import measured_table
from search_spaces.blocks.base import blocks
from search_spaces.network.model import build
from search_spaces.scenario import Scenario
from tests.nas.test_profiling_commands import CHAT, SPACE, Heard, made_table, quick, run, saved, search

ray = pytest.importorskip("ray")

FAR = {"cpu_model": "a far CPU"}
OWN = """
from dataclasses import dataclass
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.base import blocks
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.choices import one_of, repeat
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.language.space import Space

@blocks.add
@dataclass(frozen=True, kw_only=True)
class OwnGLU(SwiGLU):
    pass

def narrow(spec):
    return spec.d_model < 64

layer = Layer(
    sequence_mixer=Attention(num_heads=2, num_kv_heads=1), channel_mixer=OwnGLU(expansion=one_of(2, 3))
)
root = Decoder(vocab=16, d_model=one_of(16, 64), layers=repeat(layer, (1, 2)))
space = Space(root, name="own", constraints=[narrow])
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "tiny.py").write_text(SPACE)
    monkeypatch.setenv("NAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NAS_TABLES", str(tmp_path / "tables"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def asked(home: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A device `far` without Ray: what it is asked to do is done here, and comes back as JSON."""
    work_done: list[str] = []

    def run_here(name: str, work: Callable[..., Any], *given: Any, address: Any, progress: Any) -> Any:
        assert (name, address) == ("far", None)
        work_done.append(work.__name__)
        return json.loads(json.dumps(work(*given, progress)))

    def profile_space(space: Any, scenario: Scenario, *, partial: Path, **effort: Any) -> LatencyTable:
        assert partial.is_relative_to(home / "cache")
        return made_table(home, scenario, **FAR)

    monkeypatch.setattr(devices, "require_device", lambda name, address: None)
    monkeypatch.setattr(cluster, "joined", lambda: "joined the cluster of far")
    monkeypatch.setattr(devices, "run_on", run_here)
    monkeypatch.setattr(devices, "profile_space", profile_space)
    monkeypatch.setattr("nas.steps.measure.measure_networks", quick)
    return work_done


def test_a_search_measures_its_table_on_the_device_and_keeps_it(home: Path, asked: list[str]) -> None:
    heard = Heard()
    study = search(home, scenarios=[CHAT], time_on="far", progress=heard)
    assert asked == ["profiled"]
    assert heard.lines[0] == "joined the cluster of far"
    assert any("those of the device far: a far CPU" in line for line in heard.lines)
    assert not any("WARNING" in line for line in heard.lines)
    fact = study.facts["table"]
    assert (fact["on"], fact["fingerprint"]["cpu_model"]) == ("far", "a far CPU")
    search(
        home, scenarios=[CHAT], time_on="far", trials=10
    )  # the table is there already, of another machine or not
    assert asked == ["profiled"]


def extracted(study: Study, trial: Any) -> Any:
    return build(study.spec(trial), seed=0)


def test_the_front_is_timed_on_the_device(
    home: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    study = search(
        home,
        scenarios=[CHAT],
        time_on="far",
        latency_tables=[saved(home, "far", **FAR)],  # without an import
        constraints=["peak_bytes<1e12"],  # so memory is measured
    )
    heard, front = Heard(), study.front()
    measure_trials(study, front, extracted, heard)
    assert any(
        "not the machine of the latency table: cpu_model was 'a far CPU'" in line for line in heard.lines
    )
    assert not study.measurements()
    monkeypatch.setattr("nas.steps.measure.fingerprint", lambda scenario: {**fingerprint(scenario), **FAR})
    measure_trials(study, front, extracted, heard)
    found = {m.name: m.value for m in study.measurements(front[0].digest)}
    assert found["decode_ms_measured"].value == 2.0
    assert found["peak_bytes_measured"].source == "measured"
    assert asked == ["measured_there"] * 2


@pytest.mark.parametrize("lost", [ProfileError("far was lost"), UnknownName("no such device")])
def test_a_study_goes_on_without_a_device_that_is_lost(
    home: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch, lost: Exception
) -> None:
    study = search(home, scenarios=[CHAT], time_on="far")

    def fail(*_: Any, **__: Any) -> Any:
        raise lost

    monkeypatch.setattr(devices, "run_on", fail)
    heard = Heard()
    measure_trials(study, study.front(), extracted, heard)
    assert any(f"skipped measuring the front for {CHAT}: {lost}" in line for line in heard.lines)
    with pytest.raises(type(lost), match=str(lost)):
        search(home, name="other", scenarios=[CHAT], time_on="far")


def test_networks_travel_as_exported_models(home: Path) -> None:
    _, spec = load_space("tiny.py").draw(lambda path, labels: labels[-1])
    model = build(spec, seed=3)
    packed = packed_model(model)
    assert set(packed) == {"config.json", "model.safetensors"}
    back = unpacked_model(packed)
    assert back.spec == spec
    for one, other in zip(model.parameters(), back.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0.01, atol=0.0)


def test_a_table_of_a_gpu_is_written_where_there_is_none(home: Path) -> None:
    table = made_table(home, Scenario.parse("cuda:0,prompt=16,new_tokens=4"), gpu="a far GPU")
    assert table.to_plain()["clock"] == "CUDA events"
    assert "CUDA events" in str(table)


def test_nonsense_is_refused(home: Path) -> None:
    with pytest.raises(SettingError, match="measured on far or estimated"):
        Plan(time_on="far", roofline="h100-sxm")
    refused = run("profile", "tiny.py", "--ray", "127.0.0.1:1")
    assert "name it with --time-on" in str(refused.exception)
    refused = run("profile", "tiny.py", "--time-on", "far", "--ray", "127.0.0.1:1")
    assert "no Ray cluster at 127.0.0.1:1" in str(refused.exception)


@pytest.mark.slow  # half a minute: Ray starts, and a process for each request
def test_a_node_with_the_resource_is_a_device(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        blocks, "_things", {name: blocks[name] for name in blocks}
    )  # forgets OwnGLU afterwards
    (home / "own_block.py").write_text(OWN)
    space, scenario = load_space("own_block.py"), Scenario.parse("cpu,prompt=8,new_tokens=4")

    def dies(tell: Any) -> None:
        os._exit(1)

    def objects(tell: Any) -> None:
        raise ProfileError("no such GPU")

    ray.init(
        address="local",
        num_cpus=1,
        resources={"device:toy": 1, "device:other": 1},
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
    )
    try:
        assert list(devices.devices()) == ["other", "toy"]
        told: list[str] = []
        table = measured_table(
            space,
            scenario,
            home / "table.json",
            {"seed": 0, "seconds": 0.0},
            on="toy",
            progress=lambda what, *_: told.append(what),
        )
        assert told[0] == "starting on toy"
        assert "timing networks" in told
        assert LatencyTable.load(home / "table.json").space_digest == table.space_digest == space.digest
        assert all(network.spec.d_model == 16 for network in table.networks)  # the constraint went along
        assert not list((home / "cache" / "profiles").iterdir())
        with pytest.raises(ProfileError, match=r"the device toy was lost.*repeat the command"):
            devices.run_on("toy", dies)
        with pytest.raises(ProfileError, match="on other: no such GPU"):
            devices.run_on("other", objects)
        with pytest.raises(
            ProfileError, match="could not start: ModuleNotFoundError: No module named 'tests'"
        ):
            devices.run_on("other", extracted)  # as with another version of nas there
        with pytest.raises(UnknownName, match=r"is the device 'jetson'; offered: other, toy"):
            devices.run_on("jetson", dies)
        assert [device.name for device in listing._devices_of("auto") or ()] == ["other", "toy"]
    finally:
        ray.shutdown()


def test_what_is_followed_ends_when_the_node_has_left(monkeypatch: pytest.MonkeyPatch) -> None:
    class Pending:
        def remote(self) -> str:
            return "news"

    class Actor:
        next_report = Pending()

    monkeypatch.setattr(ray, "wait", lambda refs, timeout: ([], refs))
    monkeypatch.setattr(devices, "devices", dict)
    with pytest.raises(ProfileError, match="its node has left the cluster"):
        devices._followed("toy", Actor(), "result", lambda *step: None)


def test_devices_are_read_from_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    def node(host: str, alive: bool = True, **amounts: float) -> dict[str, Any]:
        resources = {f"device:{name}": amount for name, amount in amounts.items()}
        return {"Alive": alive, "NodeManagerHostname": host, "Resources": {"CPU": 4.0, **resources}}

    nodes = [
        node("b", jetson=1.0),
        node("a", jetson=1.0, phone=1.0),
        node("c", False, gone=1.0),
        node("d", half=0.5),
    ]
    monkeypatch.setattr(devices, "join", lambda address: None)
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    monkeypatch.setattr(ray, "available_resources", lambda: {"device:phone": 1.0, "device:jetson": 0.0})
    assert list(map(str, devices.devices().values())) == ["jetson: a, b; busy", "phone: a; free"]
    assert devices.require_device("phone").free
    with pytest.raises(UnknownName, match="offered: jetson, phone"):
        devices.require_device("gone")
    with pytest.raises(UnknownName, match="cuda:0 is a processor, not a device of the Ray cluster"):
        devices.require_device("cuda:0")
    said = run("devices", "--ray", "head:6379").stdout
    assert "  jetson: a, b; busy" in said
    plain = json.loads(run("devices", "--ray", "head:6379", "--json").stdout)
    assert plain["cluster"][1] == {"name": "phone", "hosts": ["a"], "free": True}
