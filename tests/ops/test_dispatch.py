"""Where kernels run: on the device of their inputs, whichever one is current."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from foundation.errors import SettingError
from search_spaces.ops import dispatch
from search_spaces.ops.decay_attention import tile_of


@pytest.mark.parametrize(("current", "changed"), [(0, [torch.device("cuda", 1)]), (1, [])])
def test_a_kernel_is_launched_on_the_device_of_its_inputs(
    current: int, changed: list[torch.device], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(torch.cuda, "current_device", lambda: current)
    monkeypatch.setattr(torch.cuda, "set_device", asked.append)
    monkeypatch.setattr(dispatch, "_decided", lambda module, index, tile: "" if index == 1 else "elsewhere")
    monkeypatch.setattr(dispatch, "_unavailable", lambda: "")
    monkeypatch.setattr(dispatch, "_verdicts", {})
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    assert dispatch.runs("scan", stand_in(1))
    assert asked == changed


def test_a_kernel_proves_itself_for_every_tile(monkeypatch: pytest.MonkeyPatch) -> None:
    proofs = []

    def errors(device: torch.device, dtype: torch.dtype, n_dim: int, p_dim: int) -> dict[str, float]:
        proofs.append((dtype, n_dim, p_dim))
        if n_dim * p_dim > 4096:
            raise RuntimeError("out of resource: shared memory")
        return {"output": 1.0 if dtype is torch.float16 else 0.0}

    monkeypatch.setattr(dispatch, "load", lambda module: SimpleNamespace(errors=errors, TOLERANCE=1e-2))
    monkeypatch.setattr(dispatch, "_unavailable", lambda: "")
    monkeypatch.setattr(dispatch, "_verdicts", {})
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (8, 0))
    monkeypatch.setattr(torch.cuda, "device", lambda index: nullcontext())
    monkeypatch.setitem(sys.modules, "triton.errors", SimpleNamespace(TritonError=RuntimeError))
    tiles = [(torch.bfloat16, 64, 64), (torch.float32, 64, 128), (torch.float16, 64, 64)]
    for _ in range(2):
        assert [dispatch.runs("delta_rule", stand_in(0), tile=tile) for tile in tiles] == [True, False, False]
    assert proofs == tiles
    assert "shared memory" in dispatch._verdicts["delta_rule", 0, *tiles[1]]


def test_forms_that_were_used_are_told_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    tile = (torch.bfloat16, 64, 64)
    verdicts = {("delta_rule", 0, *tile): "", ("delta_rule", 0): "it is off", ("scan", 0): "it is off"}
    monkeypatch.setattr(dispatch, "_verdicts", {**verdicts, ("slstm", 1): ""})
    said = sorted(map(str, dispatch.forms_used("cuda:0")))
    assert said == ["delta rule: our kernel", "diagonal scan: plain PyTorch (it is off)"]
    assert dispatch.forms_used("cpu") == dispatch.forms_used("cuda:2") == []


def test_forms_know_all_primitives_whatever_was_imported() -> None:
    sources = Path(dispatch.__file__).parent.glob("*.py")
    registered = [path for path in sources if "= dispatch.register(" in path.read_text()]
    assert len(dispatch.forms("cpu")) == len(registered) > 7


def test_a_word_that_means_nothing_is_refused_on_every_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(dispatch.VARIABLE, "off")
    with pytest.raises(SettingError, match="NAS_KERNELS is 'off'; it may be plain or untuned"):
        dispatch.forms("cpu")


@pytest.mark.parametrize(("channels", "tile"), [(1, 16), (16, 16), (17, 32), (64, 64), (65, 128), (128, 128)])
def test_heads_are_padded_to_tiles(channels: int, tile: int) -> None:
    q, v = torch.zeros(1, 2, 3, channels), torch.zeros(1, 2, 3, 40)
    assert tile_of(q, v) == (torch.float32, tile, 64)


def stand_in(index: int) -> Any:
    """What looks like an input on a GPU."""
    device = torch.device("cuda", index)
    return SimpleNamespace(is_cuda=True, dtype=torch.float32, device=device, numel=lambda: 1)
