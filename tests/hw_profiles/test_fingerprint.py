import pytest
import torch

from hw_profiles import fingerprint as module
from hw_profiles.fingerprint import cpu_model, differences, fingerprint, gpu_name
from search_spaces.ops import dispatch
from search_spaces.scenario import Scenario


def test_a_machine_is_itself():
    assert differences(fingerprint(Scenario()), fingerprint(Scenario())) == ""


def test_fields():
    found = fingerprint(Scenario(threads=3))
    assert found["threads"] == 3
    assert found["torch"] == torch.__version__
    assert found["gpu"] is None
    assert found["cpu_model"]


def test_differences_name_the_field():
    then, now = {"cores": 2, "gpu": None}, {"cores": 4, "torch": "2"}
    assert differences(then, now) == "cores was 2, is 4; torch was None, is '2'"


def test_a_cpu_without_a_name_is_its_kind(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CPU_INFO", tmp_path / "none")
    assert cpu_model()
    (tmp_path / "some").write_text("processor : 0\nmodel name\t: Abacus 3000\n")
    monkeypatch.setattr(module, "CPU_INFO", tmp_path / "some")
    assert cpu_model() == "Abacus 3000"


def test_a_gpu_is_named_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU of {device}")
    assert gpu_name("cuda:1") == "GPU of cuda:1"
    assert gpu_name("cpu") is None


@pytest.mark.parametrize(("engine", "named"), [("eager", True), ("graph", True), ("compile", False)])
def test_kernels_of_our_own_are_part_of_a_gpu_where_they_run(
    engine: str, named: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "GPU")
    scenario = Scenario(device="cuda:0", engine=engine)
    monkeypatch.setenv("NAS_KERNELS", "plain")
    plain = fingerprint(scenario)
    monkeypatch.delenv("NAS_KERNELS")
    monkeypatch.setattr(dispatch, "_unavailable", lambda: "")
    monkeypatch.setattr(dispatch, "kernels_here", lambda index: "Triton 3, source 1234")
    told = differences(plain, fingerprint(scenario))
    was = "kernels was 'plain: switched off by NAS_KERNELS=plain', is 'Triton 3, source 1234'"
    assert told == (was if named else "")
    assert "kernels" not in fingerprint(Scenario())
