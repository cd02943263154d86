"""The page of a latency table: curves, predictions beside measurements, what is emulated."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from dash import no_update

from dashboards.app.live_store import key_of
from dashboards.app.shell import Shell
from dashboards.facts.against import against
from dashboards.facts.device import (
    HELD_OUT,
    MEMBER,
    VARIANTS,
    WholePair,
    device_curves,
    mean_error,
    not_really_run,
    whole_pairs,
)
from dashboards.facts.networks import kind_of
from dashboards.facts.reading import Reading
from dashboards.figures.device import curves_figure, pairs_figure
from dashboards.figures.drawing import LEAST_WIDTH
from dashboards.pages.device import Device
from hw_profiles.latency.parts import parts_in
from hw_profiles.latency.records import MeasuredNetwork
from hw_profiles.latency.table import LatencyTable
from hw_profiles.timing.timings import Latency
from search_spaces.blocks.moe import MoE
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.spaces import spaces


@pytest.fixture(scope="module")
def table(reading: Reading) -> LatencyTable:
    """A decode step of a part takes a tenth of a millisecond for 64 channels; every second mixer is known."""
    space = spaces["laptop"]()
    # mixers come in pairs, by the bits of their state; a feed-forward between the others cannot be left out
    known = (type(None), SwiGLU, MoE)
    parts = [part for i, part in enumerate(parts_in(space)) if isinstance(part.block, known) or i % 2]
    entries = {
        part: {
            "prefill_ms": Latency((part.d_model / 64,) * 4),
            "decode_ms": Latency((part.d_model / 640,) * 4),
        }
        for part in parts
    }
    made = LatencyTable(
        space_name=space.name,
        space_digest=space.digest,
        scenario=reading.study.plan.scenarios[0],
        fingerprint={"cpu_model": "<b>made</b>", "cores": 2},
        entries=entries,
    )
    spec = reading.study.spec(reading.members[0])
    found = {name: Latency((1.25 * ms,) * 4) for name, (ms, _) in made.predict(spec).items()}
    return replace(made, networks=(MeasuredNetwork(spec, True, found),))


def text_of(component: Any) -> str:
    return json.dumps(component, default=lambda part: part.to_plotly_json())


def test_a_kind_is_one_curve_over_all_widths(table: LatencyTable) -> None:
    facts = device_curves(table)
    assert tuple(curve.name for curve in facts.curves) == facts.kinds
    assert set(facts.kinds) == {kind_of(part.block) for part in table.entries if part.block is not None}
    for curve in facts.curves:
        points = curve.by_width["decode_ms"]
        assert [point.at for point in points] == sorted({part.d_model for part in table.entries})
        assert any(point.measured for point in points)
        for point in points:
            if point.measured:
                assert point.ms == pytest.approx(point.at / 640)
        assert curve.by_position[0].at == 1
        assert curve.by_position[-1].at == facts.context == table.scenario.context


def test_one_kind_is_shown_by_its_variants(table: LatencyTable) -> None:
    facts = device_curves(table, "Attention")
    assert 1 < len(facts.curves) <= VARIANTS
    assert all(curve.name.startswith("Attention") for curve in facts.curves)
    assert len({curve.name for curve in facts.curves}) == len(facts.curves)
    assert device_curves(table, "nothing").curves == device_curves(table).curves


def test_a_table_without_entries_has_no_curves(table: LatencyTable) -> None:
    facts = device_curves(replace(table, entries={}))
    assert (facts.curves, facts.kinds) == ((), ())


def test_predictions_stand_beside_measurements(reading: Reading, table: LatencyTable) -> None:
    pairs = whole_pairs(reading, table, "")
    held_out, *members = pairs["decode_ms"]
    assert held_out.role == HELD_OUT
    assert held_out.measured == pytest.approx(1.25 * held_out.predicted)
    assert len(members) == len(reading.predicted_members)
    trial = reading.members[0]
    assert (members[0].role, members[0].predicted) == (MEMBER, trial.values["decode_ms"].value)
    assert members[0].measured == reading.study.measured()[trial.digest]["decode_ms"].value
    assert not whole_pairs(reading, None, "another")["decode_ms"]


def test_the_error_has_an_error() -> None:
    pairs = [WholePair(HELD_OUT, ms, 0.0, 1.0, 0.0) for ms in (0.9, 1.1, 1.3, 0.7)]
    mean, error, networks = mean_error(pairs) or (0.0, 0.0, 0)
    assert (mean, networks) == (pytest.approx(0.2), 4)
    assert error == pytest.approx(math.sqrt(4 * 0.01 / 3 / 4))
    assert mean_error(pairs[:1]) is None
    assert mean_error([replace(pair, measured=0.0) for pair in pairs]) is None


def test_what_is_emulated_or_illegal_is_said(reading: Reading, table: LatencyTable) -> None:
    emulated, illegal = not_really_run(reading, table)
    assert emulated.startswith(f"Emulated here, of {len(reading.members)} networks on the front: ")
    assert "4-bit weights with 16-bit activations (in " in emulated
    assert illegal == "No block of the table is illegal for this runtime."
    real = frozenset({(4, 16, "int"), (8, 16, "int")})
    told = not_really_run(reading, replace(table, real_bits=real, illegal={"RGLRU": "no scan"}))
    assert told[0] == "Nothing of the networks on the front is emulated here."
    assert "On kernels of their own run 4-bit weights with 16-bit activations and 8-bit" in told[1]
    assert told[2] == "RGLRU cannot run here: no scan"


def test_figures_tell_measured_from_interpolated(reading: Reading, table: LatencyTable) -> None:
    facts = device_curves(table)
    curves, pairs = curves_figure(facts), pairs_figure(whole_pairs(reading, table, ""))
    assert len(curves.data) == 3 * len(facts.curves)
    for narrow in (
        curves_figure(facts, narrow=True),
        pairs_figure(whole_pairs(reading, table, ""), narrow=True),
    ):
        assert narrow.layout.meta[LEAST_WIDTH] == 0
        assert {trace.xaxis for trace in narrow.data} <= {"x", "x2", "x3"}
    points = facts.curves[0].by_width["prefill_ms"]
    open_marks = [symbol.endswith("-open") for symbol in curves.data[0].marker.symbol]
    assert open_marks == [not point.measured for point in points]
    for figure in (curves, pairs, curves_figure(device_curves(replace(table, entries={}))), pairs_figure({})):
        json.dumps(json.loads(figure.to_json()), allow_nan=False)


def test_the_page_shows_the_table_of_its_study(
    shell: Shell, reading: Reading, table: LatencyTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = shell.pages["device"]
    assert isinstance(page, Device)
    monkeypatch.setattr("dashboards.facts.rescoring.table_of", lambda study, scenario: table)
    text = text_of(shell.page("/study/full/device", "?kind=MoE&table=nothing"))
    assert '"MoE"' in text
    parts, options = page.shown("own:", "MoE", "dark", key_of(reading.study.record))
    assert [each["value"] for each in options] == list(device_curves(table).kinds)
    told = text_of(parts)
    assert "networks on the front of this study" in told
    assert "<b>made</b>" in told  # a text of React, never markup


@pytest.fixture(scope="module")
def slower(table: LatencyTable) -> LatencyTable:
    """Half as long to prefill and three times as long to decode, in a runtime that has no scan."""
    entries = {
        part: {
            "prefill_ms": Latency((part.d_model / 128,) * 4),
            "decode_ms": Latency((3 * part.d_model / 640,) * 4),
        }
        for part in table.entries
        if part.block is None or kind_of(part.block) not in ("RGLRU", "ShortConv")
    }
    scenario = replace(table.scenario, engine="onnxruntime")
    return replace(table, entries=entries, scenario=scenario, networks=(), illegal={"RGLRU": "no scan"})


def test_two_tables_tell_the_same_blocks(table: LatencyTable, slower: LatencyTable) -> None:
    facts = against(table, slower)
    assert facts.first == device_curves(table)
    assert set(facts.second) == {c.name for c in facts.first.curves} - {"RGLRU", "ShortConv"}
    for name, ratios in facts.ratios.items():
        assert ratios["prefill_ms"].value == pytest.approx(0.5), name
        assert ratios["decode_ms"].value == pytest.approx(3.0), name
        assert all(ratio.error >= 0 for ratio in ratios.values())
    assert facts.missing == (
        "RGLRU cannot run there: no scan.",
        "The second table does not tell ShortConv.",
    )
    assert all(
        ratio.value == 1 for found in against(table, table).ratios.values() for ratio in found.values()
    )
    assert against(table, replace(slower, entries={})).second == {}


def test_both_tables_are_in_one_figure(table: LatencyTable, slower: LatencyTable) -> None:
    facts = against(table, slower)
    figure = curves_figure(facts.first, facts.second)
    assert len(figure.data) == 3 * (len(facts.first.curves) + len(facts.second))
    dotted = [trace for trace in figure.data if trace.line.dash == "dot"]
    assert {trace.name for trace in dotted} == set(facts.second)
    assert not any(trace.showlegend for trace in dotted)
    looks = {(trace.line.color, trace.marker.symbol[0].removesuffix("-open")) for trace in figure.data}
    assert len(looks) == len(facts.first.curves), "no two blocks look alike"


def test_the_page_shows_two_tables_against_each_other(
    shell: Shell, reading: Reading, table: LatencyTable, slower: LatencyTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = shell.pages["device"]
    assert isinstance(page, Device)
    named = {"own:": table, "table:phone": slower}
    monkeypatch.setattr("dashboards.pages.device.tables_for", lambda reading: dict.fromkeys(named, "t"))
    monkeypatch.setattr("dashboards.pages.device.table_named", lambda reading, word: named.get(word))
    assert '"value": "table:phone"' in text_of(shell.page("/study/full/device", "?against=table:phone"))
    key = key_of(reading.study.record)
    told = text_of(page.shown("own:", "", "light", key, "table:phone")[0])
    assert "RGLRU cannot run there: no scan." in told
    assert "RGLRU cannot run here: no scan" in told, "and among the remarks of the second table"
    assert "3.000" in told or "3.0" in told
    for same in (None, "", "own:", "table:gone"):
        assert "Dotted" not in text_of(page.shown("own:", "", "light", key, same)[0])


@pytest.mark.parametrize("which", [None, "", "own:", "own:x", "table:x", "nothing"])
def test_without_a_table_the_page_says_how_to_make_one(shell: Shell, reading: Reading, which: Any) -> None:
    page = shell.pages["device"]
    assert isinstance(page, Device)
    parts, options = page.shown(which, None, None, key_of(reading.study.record))
    assert options == []
    assert "nas profile" in text_of(parts)
    assert page.shown("own:", "", "light", None) == (no_update, no_update)
    assert "no study" in text_of(page.shown("own:", "", "light", "gone@1.0")[0])
    assert "Device" in text_of(shell.page("/study/empty/device"))
