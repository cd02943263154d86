"""Device cards: every shipped one holds together, a broken one is refused, a probe measures what it says."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from foundation.errors import ProfileError, UnknownName
from hw_profiles.roofline.cards import FOLDER, Card, card_named, cards, devices_here, load_card
from hw_profiles.roofline.probe import probe
from hw_profiles.timing.timers import Timing

CARD = Card(
    name="toy",
    title="a toy",
    kind="cpu",
    cores=4,
    flops={"float32": 4e9},
    bandwidth=1e9,
    sources={"flops": "made up", "bandwidth": "made up"},
)


def test_the_cards_are_the_files_of_the_folder() -> None:
    assert sorted(cards) == sorted(path.stem for path in FOLDER.glob("*.json"))
    assert {"a100-sxm-80gb", "h100-sxm", "h200-sxm", "jetson-agx-orin-64gb"} <= set(cards)
    assert {card.kind for card in cards.values()} == {"cpu", "cuda"}


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.json")))
def test_a_shipped_card_names_a_source_for_every_figure(name: str) -> None:
    card = cards[name]
    assert card.name == name
    for figure in ("flops", "bandwidth", "memory_bytes"):
        assert len(card.sources[figure]) > 10
    assert "float32" in card.flops
    assert 1e9 < card.bandwidth < 1e13
    assert all(1e10 < rate < 1e16 for rate in card.flops.values())
    if "float64" in card.flops:
        assert card.flops["float64"] < card.flops["float32"]
    for half in {"bfloat16", "float16"} & set(card.flops):
        assert card.flops[half] > card.flops["float32"]


def test_a_card_survives_its_file(tmp_path: Path) -> None:
    for card in (
        CARD,
        replace(CARD, launch_us=2.0, sources={**CARD.sources, "launch_us": "x"}, measured=True),
    ):
        path = tmp_path / "card.json"
        card.save(path)
        assert card_named(str(path)) == card


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": "tpu"}, "kind 'tpu'"),
        ({"flops": {"float23": 1.0}}, "did you mean 'float32'"),
        ({"bandwidth": 0}, "bandwidth must be a positive number"),
        ({"flops": {"float32": float("nan")}}, "float32 must be a positive number"),
        ({"launch_us": -1.0}, "launch_us must be"),
        ({"memory_bytes": 5}, "no source is given for memory_bytes"),
        ({"sources": {"flops": "x"}}, "no source is given for bandwidth"),
    ],
)
def test_a_card_that_does_not_hold_together_is_refused(change: dict[str, object], said: str) -> None:
    with pytest.raises(ProfileError, match="card toy") as caught:
        replace(CARD, **change)  # type: ignore[arg-type]
    assert said in str(caught.value)


def test_files_that_are_no_cards_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "card.json"
    with pytest.raises(ProfileError, match="no such file"):
        load_card(path)
    path.write_text("{")
    with pytest.raises(ProfileError, match="not JSON"):
        load_card(path)
    path.write_text(json.dumps({**CARD.to_plain(), "version": 99}))
    with pytest.raises(ProfileError, match="of version 1"):
        load_card(path)
    path.write_text(json.dumps({**CARD.to_plain(), "bandwith": 1}))
    with pytest.raises(ProfileError, match="no field 'bandwith'; did you mean 'bandwidth'"):
        load_card(path)
    with pytest.raises(UnknownName, match="did you mean 'h100-sxm'"):
        card_named("h100-smx")


def test_threads_take_their_share_of_a_cpu_and_no_more_than_there_is() -> None:
    assert CARD.flops_of("float32", 1) == 1e9
    assert CARD.flops_of("float32", 4) == CARD.flops_of("float32", 16) == 4e9
    assert replace(CARD, kind="cuda").flops_of("float32", 1) == 4e9
    with pytest.raises(ProfileError, match="no peak for float16"):
        CARD.flops_of("float16")


def test_a_probe_reports_what_its_clock_says() -> None:
    calls = []

    def timer(call: object, repeats: int) -> Timing:
        calls.append(repeats)
        ms = 4.0 if len(calls) % 3 == 1 else 2.0  # the slow ones are not the peak
        return Timing(ms, ms)

    card = probe("cpu", threads=1, timer=timer, size=1 / 64)
    copied, width = 2 * 2**27 // 64, 256
    assert card.bandwidth == pytest.approx(copied / 2e-3, rel=1e-3)
    assert card.flops["float32"] == pytest.approx(2 * width**3 / 2e-3, rel=1e-3)
    assert card.launch_us == pytest.approx(2000)
    assert card.measured
    assert card.cores == 1
    assert "probe" in card.sources["bandwidth"]


def test_a_probe_of_this_machine_is_within_reason() -> None:
    started = time.perf_counter()
    card = probe("cpu", size=1 / 16)
    assert time.perf_counter() - started < 30
    assert 1e9 < card.bandwidth < 1e12
    assert 1e9 < card.flops["float32"] < 1e13
    assert card.launch_us is not None
    assert 0.1 < card.launch_us < 1000
    assert Card.from_plain(card.to_plain()) == card


def test_this_machine_is_listed() -> None:
    here = devices_here()
    assert here[0]["device"] == "cpu"
    assert here[0]["cores"] >= 1
    assert here[0]["memory_bytes"] > 2**28
