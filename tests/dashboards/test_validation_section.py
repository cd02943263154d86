"""The report's validation: the proxy, the engine's own criterion, the gain over random choice."""

from __future__ import annotations

from dataclasses import replace

from dashboards.facts import Facts
from dashboards.facts.records import read_validation
from dashboards.figures import figures
from dashboards.report.finalist_section import finalist_section

GAIN = {"ratio": 1.31, "interval": [1.1, 1.55], "candidates": 45, "against": 45, "known": 60}
PLAIN = {
    "tau": 0.6,
    "interval": [0.3, 0.8],
    "pairs": [[1.0, 2.0, "ab"]],
    "steps": 800,
    "claims": {
        "engine": "exact",
        "by": "sums of block scores",
        "agreements": [{"against": "real divergences", "tau": 0.9, "interval": [0.8, 1.0], "networks": 24}],
        "remarks": ["<b>careful</b>"],
    },
    "gain": {
        **GAIN,
        "effort": "Not counted is what exact did",
        "over_all": {**GAIN, "ratio": 0.97, "interval": [0.9, 1.04], "against": 60},
    },
}


def page(facts: Facts, plain: dict[str, object]) -> str:
    return finalist_section(replace(facts, validation=read_validation(plain)))


def test_the_report_tells_claims_and_gain(all_facts: dict[str, Facts]) -> None:
    text = page(all_facts["full"], PLAIN)
    for words in (
        "τ = 0.60 (95 % interval 0.30 to 0.80)",
        "chose by sums of block scores. Their ranking agrees with that of",
        "<li>real divergences: Kendall&#x27;s τ = 0.90 (95 % interval 0.80 to 1.00), 24 random networks</li>",
        "&lt;b&gt;careful&lt;/b&gt;",
        "1.31 times the hypervolume of random choice from the same weights (95 % interval 1.10 to 1.55)",
        "with 45 scored candidates each: better than random choice.",
        "Compared with all 60 random candidates on record: 0.97 times (95 % interval 0.90 to 1.04).",
        "Not counted is what exact did.",
    ):
        assert words in text, words


def test_a_gain_within_chance_is_called_so(all_facts: dict[str, Facts]) -> None:
    text = page(all_facts["two"], {"gain": {**GAIN, "interval": [0.9, 1.8]}})
    assert "not significantly different from random choice" in text
    assert "worse than random choice" in page(
        all_facts["two"], {"gain": {**GAIN, "ratio": 0.5, "interval": [0.4, 0.6]}}
    )


def test_a_gain_alone_draws_no_ranking(all_facts: dict[str, Facts]) -> None:
    facts = replace(all_facts["two"], validation=read_validation({"gain": GAIN}))
    assert facts.validation is not None
    assert facts.validation.tau is None
    assert "no network was trained from scratch" in str(figures["proxy"](facts))
