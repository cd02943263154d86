"""Regions that several processes compile beforehand are those of the space; nothing depends on them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from evaluators.training import beforehand, regions
from evaluators.training.any_width import Axes
from evaluators.training.beforehand import Job, compile_beforehand, networks_of, widths_of
from evaluators.training.execution import TRACED
from evaluators.training.half_layer import HalfLayer
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.base import Block
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


def several() -> Space:
    """Enough regions to be shared among processes."""
    layer = Layer(sequence_mixer=one_of(*(ShortConv(kernel=kernel) for kernel in range(2, 8))))
    return Space(Decoder(vocab=12, d_model=one_of(4, 8), layers=(layer,)), name="several")


def job(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    monkeypatch.setenv(regions.CACHE_VARIABLE, str(folder))
    return Job(networks_of(several(), 12), 2, 9, "cpu", "bfloat16", TRACED, 60.0, (4, 8))


def blocks_of(space: Space) -> list[tuple[int, Block]]:
    networks = [from_json(text) for text in networks_of(space, 12)]
    return [(n.d_model, block) for n in networks for block in n.layers[0].blocks.values()]


def test_networks_of_one_layer_have_every_sublayer_of_the_space_at_its_largest_width() -> None:
    wanted = {
        each.block
        for each in sublayers_in(space())
        if each.block is not None and not isinstance(each.block, Fade)  # of a file that others cannot read
    }
    found = blocks_of(space())
    assert set(found) == {(8, block) for block in wanted}
    assert len(found) == 2 * 3  # three mixers, each beside a channel mixer
    assert widths_of(space()) == (4, 8)


def test_what_is_another_function_at_every_width_is_there_at_every_width(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    axes = HalfLayer.axes

    def only_others(half: HalfLayer, widths: Sequence[int]) -> Axes | None:
        return None if isinstance(half.block, ShortConv) else axes(half, widths)

    monkeypatch.setattr(HalfLayer, "axes", only_others)
    found = blocks_of(space())
    assert {width for width, block in found if isinstance(block, ShortConv)} == {4, 8}
    assert {width for width, block in found if isinstance(block, (Attention, MLP, SwiGLU))} == {8}


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
    compiled = set(regions._compiled.values())
    assert len(compiled) == 2  # the sublayer and the head, each for all widths
    assert None not in compiled
