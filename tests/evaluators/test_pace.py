"""How fast a training was is what its clock says, and goes into its curve."""

from __future__ import annotations

from pathlib import Path

import pytest

from evaluators.training import pace as module
from evaluators.training.curve import Curve
from evaluators.training.fit import fit
from evaluators.training.network_training import NetworkTraining
from evaluators.training.pace import Pace
from foundation.files import read_json
from search_spaces.devices import PEAKS, peak_of
from search_spaces.network.model import build
from search_spaces.scenario import Scenario
from tests.evaluators import tiny


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(module, "monotonic", lambda: now[0])
    return now


def test_the_pace_is_the_median_over_stretches(clock: list[float]) -> None:
    pace = Pace(tokens=100, flops=6e9, peak=1e12, _since=0.0)
    for seconds in (10.0, 0.25, 0.25, 0.25, 0.25, 2.0):  # something was compiled in the first
        clock[0] += seconds
        pace.add()
    assert pace.steps_per_second == pytest.approx(0.5)
    assert pace.to_plain() == {"tokens_per_second": 50, "peak_share": 0.003}
    assert str(pace) == "50 tokens/s, 0% of the peak"


def test_a_short_training_has_a_pace_too(clock: list[float]) -> None:
    pace = Pace(tokens=100, _since=0.0)
    pace.add()
    clock[0] = 0.5
    assert pace.to_plain() == {"tokens_per_second": 200}
    assert (str(Pace()), Pace().to_plain()) == ("", {})


def test_a_training_keeps_its_pace_in_its_curve(tmp_path: Path) -> None:
    spec, task, file = tiny.decoder(), tiny.task(tmp_path), tmp_path / "curve.json"
    training = NetworkTraining(build(spec), task, steps=3, seed=0, batch=2)
    assert training.pace.flops == 3 * spec.cost(Scenario(batch=2, prompt=task.length)).prefill_flops
    curve = fit(training, curve_file=file)
    assert curve.pace.keys() == {"tokens_per_second"}  # nobody knows the peak of a CPU
    assert read_json(file)["tokens_per_second"] == curve.pace["tokens_per_second"] > 0
    assert Curve.read(file, 3) == curve


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("NVIDIA H200", "H200"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H100 PCIe", "H100 PCIe"),
        ("NVIDIA A100-SXM4-80GB", "A100"),
        ("NVIDIA L40S", "L40S"),
        ("NVIDIA L40", None),
    ],
)
def test_a_device_is_known_by_its_name(name: str, word: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search_spaces.devices.missing_here", lambda device: "")
    monkeypatch.setattr("torch.cuda.get_device_name", lambda device: name)
    found = [peak_of("cuda:0", precision) for precision in ("bfloat16", "tf32", "float32")]
    assert found == (list(PEAKS[word]) if word else [None] * 3)


def test_a_cpu_has_no_known_peak() -> None:
    assert peak_of("cpu", "float32") is None
