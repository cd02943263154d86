"""Records of steps become facts; what is absent is None."""

from __future__ import annotations

from typing import Any

import pytest

from dashboards.facts.records import read_corpus, read_supernet, read_tables, read_validation

CORPUS = {"name": "novels", "digest": "ab12", "train_bytes": 10, "valid_bytes": 2}
CLAIMS = {
    "engine": "exact",
    "by": "sums of scores",
    "agreements": [{"against": "training", "tau": 0.5, "interval": None, "networks": 12}],
}


@pytest.mark.parametrize("read", [read_corpus, read_supernet, read_validation])
@pytest.mark.parametrize("plain", [None, {}])
def test_nothing_recorded_is_none(read: Any, plain: Any) -> None:
    assert read(plain) is None


def test_a_corpus_may_have_no_references() -> None:
    corpus = read_corpus(CORPUS)
    assert corpus is not None
    assert corpus.reference == {}
    with_reference = read_corpus({**CORPUS, "reference": {"xz": 1.9}})
    assert with_reference is not None
    assert with_reference.reference == {"xz": 1.9}


def test_losses_of_a_supernet_are_triples() -> None:
    facts = read_supernet({"steps": 2, "seconds": 1.5, "loss": [[1, 5.0, 5.5], [2, 4.0, 4.4]]})
    assert facts is not None
    assert facts.loss == ((1, 5.0, 5.5), (2, 4.0, 4.4))
    without = read_supernet({"steps": 2, "seconds": 1.5})
    assert without is not None
    assert without.loss == ()


def test_a_table_has_one_accuracy_for_each_latency() -> None:
    decode = {"mape": 0.1, "tau": 0.9, "tau_interval": [0.8, 1.0], "held_out": [[1, 2], [3, 4]]}
    (table,) = read_tables({"table": {"decode_ms": decode, "seconds": 3.0, "machine": "m", "notes": ["n"]}})
    (accuracy,) = table.accuracies
    assert (accuracy.name, accuracy.mape, accuracy.interval) == ("decode_ms", 0.1, (0.8, 1.0))
    assert accuracy.pairs == ((1, 2), (3, 4))
    assert (table.seconds, table.machine, table.notes, table.estimate) == (3.0, "m", ("n",), None)


def test_an_estimate_has_no_accuracy() -> None:
    (table,) = read_tables({"table": {"estimate": "phone"}})
    assert table.accuracies == ()
    assert table.estimate == "phone"


@pytest.mark.parametrize(
    ("interval", "expected"),
    [(None, None), ([0.1, 0.9], (0.1, 0.9)), ([None, 0.9], None), ([float("nan"), 0.9], None)],
)
def test_an_interval_with_a_gap_is_none(interval: Any, expected: Any) -> None:
    facts = read_validation({"tau": 0.5, "interval": interval})
    assert facts is not None
    assert facts.interval == expected


def test_claims_and_gains_are_read_at_all_depths() -> None:
    gain = {"ratio": 1.2, "candidates": 9, "against": 9}
    facts = read_validation({"claims": CLAIMS, "gain": {**gain, "over_all": {**gain, "against": 40}}})
    assert facts is not None
    assert facts.claims is not None
    assert facts.claims.rankings[0].networks == 12
    assert facts.gain is not None
    assert facts.gain.over_all is not None
    assert (facts.gain.over_all.against, facts.gain.effort) == (40, "")
    assert facts.tau is None
