"""The parts of the profile benchmarks that reckon and draw, on numbers made up."""

from __future__ import annotations

import json
import math
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
import torch.nn.functional as F

from benchmarks.profiles import spaces
from benchmarks.profiles.accuracy import judged
from benchmarks.profiles.command import without_paths
from benchmarks.profiles.figures import draw, ticks
from benchmarks.profiles.published import SIZES, crossover, exponent, linear_mixers, network, no_fused_kernel
from benchmarks.profiles.repeat import summary
from benchmarks.profiles.results import Result
from search_spaces.scenario import Scenario

LENGTHS = (1024, 2048, 4096, 8192)


def law(power: float, scale: float = 1.0) -> dict[int, float]:
    return {n: scale * n**power for n in LENGTHS}


@pytest.mark.parametrize("power", [0.0, 1.0, 1.7])
def test_exponents_are_those_of_power_laws(power: float) -> None:
    assert exponent(law(power, 3.0), 2048) == pytest.approx(power)
    bent = {**law(power), 1024: 1e6}
    assert exponent(bent, 2048) == pytest.approx(power)


def test_lines_cross_where_they_are_equal() -> None:
    linear, square = law(1.0), law(2.0, 1 / 3000)
    assert crossover(linear, square) == pytest.approx(3000, rel=1e-3)
    assert crossover(law(1.0, 1e6), square) == "none up to 8192"
    assert crossover(law(1.0, 1e-6), square) == "1024 or fewer"


def test_attention_written_out_is_attention_and_is_put_back() -> None:
    dice = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 3, 17, 8, dtype=torch.float64, generator=dice) for _ in range(3))
    fused = F.scaled_dot_product_attention
    with no_fused_kernel():
        plain = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        assert F.scaled_dot_product_attention is not fused
    assert F.scaled_dot_product_attention is fused
    torch.testing.assert_close(plain, fused(q, k, v, is_causal=True))


@pytest.mark.parametrize("size", SIZES)
def test_every_network_of_the_claims_can_be_built(size: str) -> None:
    for mixer in linear_mixers(SIZES[size]).values():
        network(mixer, SIZES[size], None).check()


def test_a_network_is_inside_where_it_was_measured_inside() -> None:
    cell = {"interval": [8.0, 12.0], "predicted": 10.0, "measured": 10.5, "unsettled": None}
    cells = [cell, {**cell, "measured": 20.0}, {**cell, "measured": 9.0}, {**cell, "measured": 8.0}]
    found = judged([{"kinds": ["A", "B"], "prefill_ms": each} for each in cells], "prefill_ms")
    assert found["inside 90 %"] == 0.75
    assert found["kinds"] == 2
    errors = [abs(10 / each["measured"] - 1) for each in cells]
    assert found["MAPE"] == pytest.approx(sum(errors) / 4, abs=1e-6)


def test_the_range_of_runs_is_relative() -> None:
    shares = {1.0: 0.99, 1.1: 0.5, 1.05: 0.97}
    found = [{"ratios": {"r": value}, "share of its core": share} for value, share in shares.items()]
    (row,) = summary({False: found, True: []})
    assert row["range"] == pytest.approx(0.1)
    assert (row["median"], row["runs"]) == (1.05, 3)
    assert row["range of these"] == pytest.approx(0.05)
    assert row["runs with their own core"] == 2


def test_a_kept_command_has_no_paths_of_a_machine() -> None:
    words = ["--part", "cost", "--out", "/somewhere/x.json", "--seconds", "3", "--table", "y"]
    assert without_paths(words) == "--part cost --seconds 3"
    assert without_paths([]) == ""


def test_ticks_are_round_and_within() -> None:
    assert ticks(0.9, 30) == [1, 2, 5, 10, 20]


def test_results_are_drawn_from_what_was_kept(tmp_path: Path) -> None:
    cell = {"interval": [8.0, 12.0], "predicted": 10.0, "measured": 10.5, "unsettled": None}
    row = {"kinds": ["A"], "prefill_ms": cell, "decode_ms": {**cell, "measured": 30.0}}
    rows = [row, {**row, "prefill_ms": {**cell, "measured": 9.0}}]
    result = Result(tmp_path / "deep" / "accuracy.json", "a command", Scenario())
    result.write(rows, complete=True, summary=[judged(rows, r) for r in ("prefill_ms", "decode_ms")])
    (picture,) = draw(result.path)
    tree = ElementTree.parse(picture)
    assert len(tree.findall(".//{*}circle")) == 4
    (tmp_path / "claims.json").write_text(
        json.dumps(
            {
                **json.loads(result.path.read_text()),
                "size": {"d_model": 8, "layers": 1},
                "timings": [{"unsettled": "a neighbour"}],
                "rows": [
                    {
                        "claim": "a | b",
                        "setting": "s",
                        "published": "2",
                        "source": "x",
                        "ours": math.pi,
                        "unit": "times",
                    }
                ],
            }
        )
    )
    (table,) = draw(tmp_path / "claims.json")
    assert "| a / b | s | 2 | 3.14 times | x |" in table.read_text()
    assert "1 of 1 timings did not settle" in table.read_text()


def test_kinds_are_tried_again_after_one_that_ends_its_process(monkeypatch: pytest.MonkeyPatch) -> None:
    known = sorted(spaces.blocks)
    asked: list[list[str]] = []

    def tried(kinds: list[str], scenario: Scenario, d_model: int) -> dict[str, str | None]:
        asked.append(list(kinds))
        if len(asked) == 1:
            return {kinds[0]: None, kinds[1]: "cannot be captured"}
        if len(asked) == 2:
            return {}
        return dict.fromkeys(kinds)

    monkeypatch.setattr(spaces, "on_gpu", lambda scenario: True)
    monkeypatch.setattr(spaces, "_tried", tried)
    failed = spaces.failing_kinds(Scenario(), 64)
    assert failed == {known[1]: "cannot be captured", known[2]: "its process ended"}
    assert asked == [known, known[2:], known[3:]]
