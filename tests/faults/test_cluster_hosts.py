"""A search across two hosts, one of which is cut off, ends well."""

from __future__ import annotations

import pytest

pytest.importorskip("ray")

from benchmarks.cluster.hosts import searched, why_not

pytestmark = pytest.mark.slow  # minutes: two nodes start, and the loss of one is noticed


def test_a_search_outlives_a_host() -> None:
    if reason := why_not():
        pytest.skip(reason)
    found = searched(120)
    assert found["exit code"] == 0, found
    assert found["complete"] == found["trials"] == 120
    assert found["every number once"]
    assert found["scored on the host that is cut off"] > 0
    assert found["scored on the host that stays"] > found["scored on the host that is cut off"]
    assert any("2 Ray actors from now on" in line for line in found["told"])
