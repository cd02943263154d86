"""Workers and driver are killed, and candidates misbehave: nothing is lost, and nothing is left."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("ray")

from benchmarks.cluster.campaign import campaign

pytestmark = pytest.mark.slow  # minutes: dozens of workers start


def test_every_trial_has_its_outcome_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TMPDIR", "RAY_TMPDIR", "NAS_CACHE", "TORCHINDUCTOR_CACHE_DIR"):
        monkeypatch.setenv(name, str(tmp_path))  # restored afterwards: the campaign sets its own
    monkeypatch.setenv("HOME", str(tmp_path))
    verdicts, rows = campaign(40)
    assert verdicts["driver killed"] == 2
    assert verdicts["trials"] == verdicts["with an outcome"] == 40
    for claim in (
        "every number once",
        "proposals equal to an undisturbed run",
        "front equal to an undisturbed run",
    ):
        assert verdicts[claim], claim
    for what in ("processes left", "files left", "shared memory left"):
        assert verdicts[what] == [], what
    for row in rows:  # a candidate may have been unlucky three times
        unlucky = row["trials"] - row["with the outcome that it calls for"]
        assert unlucky <= 2, row
        assert unlucky == 0 or "worker lost" in row["others"], row
