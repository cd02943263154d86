"""A real `kill -9` in the middle of `nas profile`: the same command goes on with the samples it left."""

from __future__ import annotations

import json
import math
import signal
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from hw_profiles.latency.profiler import FITTED_NETWORKS, HELD_OUT_NETWORKS
from hw_profiles.latency.table import LatencyTable
from hw_profiles.timing.timings import READINGS
from tests.forks import Fork, nas_command, until

SPACE = """
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.mamba2 import Mamba2
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.choices import one_of, repeat
from search_spaces.network.decoder import Decoder, Layer
from search_spaces.language.space import Space

attention = Attention(num_heads=2, num_kv_heads=one_of(1, 2))
mixer = one_of(attention, Mamba2(num_heads=2, state_dim=one_of(8, 16)))
layer = Layer(sequence_mixer=mixer, channel_mixer=SwiGLU(expansion=one_of(1, 2, 3)))
space = Space(Decoder(vocab=256, d_model=one_of(32, 48, 64), layers=repeat(layer, (1, 2, 3))), name="tiny")
"""


def profile(folder: Path, output: str, prompt: int = 32) -> Fork:
    (folder / "tiny.py").write_text(SPACE)
    how = ("--scenario", f"cpu,prompt={prompt},new_tokens=8", "--profile-seconds", "4")
    return nas_command("profile", str(folder / "tiny.py"), "-o", str(folder / output), *how)


def samples(path: Path) -> dict[str, Any]:
    """The whole lines of a samples file; none while it is not there."""
    if not path.exists():
        return {}
    lines = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
    return {entry["key"]: entry["value"] for line in lines[1:] if (entry := json.loads(line))}


def parts(known: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in known.items() if key.startswith("part/")}


def finished(fork: Fork) -> None:
    ended = fork.wait()
    assert ended.returncode == 0, ended.stderr


@pytest.mark.slow
def test_a_killed_profile_goes_on_where_it_was_and_ends_like_a_whole_one(tmp_path: Path) -> None:
    partial = tmp_path / "table.partial.json"
    first = profile(tmp_path, "table.json")
    until(lambda: len(parts(samples(partial))) > 0, first, timeout=240)
    assert first.kill().returncode == -signal.SIGKILL
    kept = samples(partial)
    assert not (tmp_path / "table.json").exists()
    assert sum(key.startswith("network/") for key in kept) == FITTED_NETWORKS + HELD_OUT_NETWORKS

    finished(profile(tmp_path, "table.json"))
    assert not partial.exists()
    table = LatencyTable.load(tmp_path / "table.json")
    reference = table.provenance.reference_ms
    by_key = {
        "part/" + json.dumps(part.to_plain(), sort_keys=True): found for part, found in table.entries.items()
    }
    for key, value in parts(kept).items():  # every sample of before is in the table, and no other
        for reading, found in by_key[key].items():
            ratios = [sample / reference for sample in found.samples_ms]
            assert ratios == pytest.approx(value[reading]["ratios"], rel=1e-3)

    finished(profile(tmp_path, "whole.json"))
    whole = LatencyTable.load(tmp_path / "whole.json")
    assert set(whole.entries) == set(table.entries)
    for reading in READINGS:
        medians = [(t.entries[part][reading].median_ms, part) for t in (table, whole) for part in t.entries]
        half = len(medians) // 2
        logs = [
            math.log(max(b, 1e-3) / max(a, 1e-3))
            for (a, part), (b, _) in zip(medians[:half], medians[half:], strict=True)
            if part.block is not None
        ]
        assert abs(fmean(logs)) < 0.25  # two sessions, on a machine that others use too


def test_a_killed_profile_is_not_continued_under_another_scenario(tmp_path: Path) -> None:
    partial = tmp_path / "table.partial.json"
    first = profile(tmp_path, "table.json")
    until(lambda: bool(samples(partial)), first)
    first.kill()
    before = partial.read_text()
    ended = profile(tmp_path, "table.json", prompt=16).wait()
    assert ended.returncode != 0
    said = " ".join(ended.stderr.split())
    assert "another scenario" in said, said
    assert "prompt was 32, is 16" in said, said
    assert partial.read_text() == before
