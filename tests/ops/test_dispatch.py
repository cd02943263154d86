"""Where kernels run: on the device of their inputs, whichever one is current."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from search_spaces.ops import dispatch


@pytest.mark.parametrize(("current", "changed"), [(0, [torch.device("cuda", 1)]), (1, [])])
def test_a_kernel_is_launched_on_the_device_of_its_inputs(
    current: int, changed: list[torch.device], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(torch.cuda, "current_device", lambda: current)
    monkeypatch.setattr(torch.cuda, "set_device", asked.append)
    monkeypatch.setattr(dispatch, "_decided", lambda module, index: "" if index == 1 else "elsewhere")
    monkeypatch.setattr(dispatch, "_unavailable", lambda: "")
    monkeypatch.setattr(dispatch, "_verdicts", {})
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    on_second: Any = SimpleNamespace(
        is_cuda=True, dtype=torch.float32, device=torch.device("cuda", 1), numel=lambda: 1
    )
    assert dispatch.runs("scan", on_second)
    assert asked == changed
