"""Regions that several processes compile beforehand are those of the space; nothing depends on them."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from evaluators.training import beforehand, regions
from evaluators.training.beforehand import Job, compile_beforehand, networks_of
from evaluators.training.execution import TRACED
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.gelu_mlp import MLP
from search_spaces.blocks.short_conv import ShortConv
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.choices import one_of
from search_spaces.language.serialization import from_json
from search_spaces.language.space import Space
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.network.sublayers import sublayers_in
from search_spaces.quantization.bits import Bits
from tests.evaluators.tiny import Fade

ATTENTION = Attention(num_heads=2, num_kv_heads=1, head_dim=4)


def space() -> Space:
    layer = Layer(
        sequence_mixer=one_of(ATTENTION, ShortConv(), ShortConv(kernel=4), Fade()),
        channel_mixer=one_of(SwiGLU(expansion=2), MLP(expansion=2)),
        bits=Bits(weight=one_of(16, 8)),
    )
    return Space(Decoder(vocab=12, d_model=one_of(4, 8), layers=(layer, layer)), name="small")


def job(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    monkeypatch.setenv(regions.CACHE_VARIABLE, str(folder))
    return Job(networks_of(space(), 12), 2, 9, "cpu", "bfloat16", TRACED, 60.0)


def test_networks_of_one_layer_have_every_sublayer_of_the_space_once() -> None:
    networks = [from_json(text) for text in networks_of(space(), 12)]
    found = [(n.d_model, block) for n in networks for block in n.layers[0].blocks.values()]
    wanted = {
        (each.d_model, each.block)
        for each in sublayers_in(space())
        if each.block is not None and not isinstance(each.block, Fade)  # of a file that others cannot read
    }
    assert set(found) == wanted
    assert len(networks) == 6  # three mixers at two widths


@pytest.mark.parametrize("code", ["pass", "raise SystemExit(1)", "import time; time.sleep(60)"])
def test_only_what_all_processes_did_is_marked_as_done(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Job] = []

    def start(share: Job) -> subprocess.Popen[bytes]:
        started.append(share)
        return subprocess.Popen([sys.executable, "-c", code])

    monkeypatch.setattr(beforehand, "_started", start)
    whole = replace(job(tmp_path, monkeypatch), seconds=5.0 if code == "pass" else 0.5)
    assert 0 < compile_beforehand(whole) < 20
    assert sorted(spec for share in started for spec in share.specs) == sorted(whole.specs)
    assert whole.mark.exists() is (code == "pass")
    assert (compile_beforehand(whole) == 0) is (code == "pass")


def test_few_networks_are_left_to_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = job(tmp_path, monkeypatch)
    assert compile_beforehand(replace(whole, specs=whole.specs[:3])) == 0


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The .grad attribute")
def test_a_process_compiles_its_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regions, "_compiled", {})
    whole = job(tmp_path, monkeypatch)
    replace(whole, specs=whole.specs[:1]).compile()
    assert len(regions._compiled) == 3  # two sublayers and the head
    assert None not in regions._compiled.values()
