"""What this process may use, in words."""

from __future__ import annotations

import pytest
import torch

from foundation.errors import SettingError
from search_spaces.devices import missing_here, require_here, told_here


@pytest.mark.parametrize(
    ("usable", "there", "told"),
    [(1, 1, "1 CPU"), (4, 4, "4 CPUs"), (1, 8, "1 of 8 CPUs"), (3, None, "3 CPUs")],
)
def test_cpus_are_those_of_the_affinity(
    usable: int, there: int | None, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(usable)), raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: there)
    assert told_here("cpu") == f"this process may use {told}"


def test_gpus_are_those_that_are_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert not missing_here("cuda")
    assert not missing_here("cuda:1")
    assert missing_here("cuda:2") == "this process may use 2 GPUs, so there is no cuda:2"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    assert missing_here("cuda:2") == (
        "this process may use 2 GPUs (CUDA_VISIBLE_DEVICES=4,7), so there is no cuda:2"
    )
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    with pytest.raises(
        SettingError, match=r"device cuda:0: this process may use no GPU, so there is no cuda:0$"
    ):
        require_here("cuda:0")
