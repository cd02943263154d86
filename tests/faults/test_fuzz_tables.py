"""Tables, cards and samples files made wrong at random are read and used, or refused in one line."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from foundation.errors import ProfileError
from hw_profiles.fingerprint import fingerprint
from hw_profiles.latency.comparison import compare
from hw_profiles.latency.parts import parts_in
from hw_profiles.latency.reading import check_sample
from hw_profiles.latency.session import part_key
from hw_profiles.latency.table import LatencyTable
from hw_profiles.roofline.cards import FOLDER, load_card
from hw_profiles.roofline.roofline import Roofline
from hw_profiles.timing.sample_log import SampleLog
from hw_profiles.timing.versions import VERSION
from nas.tables.table_facts import table_fact
from search_spaces.scenario import Scenario
from tests.faults.limits import read_within_limits
from tests.faults.mutations import mutated
from tests.faults.situations import tiny_space, tiny_table

pytestmark = pytest.mark.slow  # minutes: `make faults` runs them

FILES = 25
"""Files that are read in one process."""

SPECS = [tiny_space().close(genotype) for genotype in tiny_space().enumerate()]


def use_table(path: Path) -> None:
    """Read a table, and ask it all that a search, a comparison and a report ask."""
    table = LatencyTable.load(path, allow_other_machine=True)
    table.covers(tiny_space())
    for spec in SPECS:
        with suppress(ProfileError):  # it has no such part
            predicted = table.predict(spec)
            assert all(math.isfinite(ms) and math.isfinite(error) for ms, error in predicted.values())
    str(table)
    table.to_plain()
    table_fact(table)
    compare(table, table).to_plain()


def use_card(path: Path) -> None:
    """Read a card, and estimate by it."""
    card = load_card(path)
    str(card)
    card.to_plain()
    for scenario in (Scenario(), Scenario(device="cuda", dtype="bfloat16")):
        if scenario.device == card.kind:
            Roofline(card, scenario).predict(SPECS[0])


def use_samples(path: Path) -> None:
    """Read the samples of a profile that was stopped."""
    SampleLog(path, Scenario(), fingerprint(Scenario()), check_sample)


def samples() -> Any:
    """The lines of a whole samples file."""
    measured = {
        reading: {"ratios": [1.0, 1.1], "walls": [1.0, 1.2]} for reading in ("prefill_ms", "decode_ms")
    }
    around = {"around": {"prefill_ms": 0.5, "decode_ms": -0.1}}
    found = [
        {
            "format": "nas samples",
            "version": VERSION,
            "scenario": Scenario().conditions(),
            "fingerprint": fingerprint(Scenario()),
        },
        {"key": "calibration/0", "value": [[1.0, 1.1], [1.0, 1.2]]},
        *({"key": part_key(part), "value": measured | around} for part in parts_in(tiny_space())),
        {"key": "network/{}", "value": measured},
        {"key": "seconds", "value": 3.5},
        {"key": "disturbed/0", "value": "a neighbour"},
    ]
    return json.loads(json.dumps(found))


def lines(content: bytes) -> bytes:
    """One value of a list per line, where it still is a list."""
    try:
        plain = json.loads(content)
    except ValueError:
        return content
    plain = plain if isinstance(plain, list) else [plain]
    return b"".join(json.dumps(line).encode() + b"\n" for line in plain)


CARD = json.loads((FOLDER / "xeon-1-thread.json").read_text())
KINDS: dict[str, tuple[Callable[[Path], Any], Any, Callable[[bytes], bytes]]] = {
    "table": (use_table, tiny_table(), bytes),
    "card": (use_card, CARD, bytes),
    "samples": (use_samples, samples(), lines),
}


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@settings(
    max_examples=4,
    deadline=None,
    phases=[
        Phase.explicit,
        Phase.reuse,
        Phase.generate,
    ],  # what fails is printed; making it smaller takes hours
    suppress_health_check=list(HealthCheck),
)
def test_a_file_made_wrong_is_used_or_refused(
    kind: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    use, plain, form = KINDS[kind]
    contents = data.draw(st.lists(mutated(plain), min_size=FILES, max_size=FILES))
    folder = tmp_path_factory.mktemp(kind)
    for i, content in enumerate(contents):
        (folder / f"{i}.json").write_bytes(form(content))
    read_within_limits(use, sorted(folder.iterdir()))


def test_whole_files_are_used(tmp_path: Path) -> None:
    for kind, (use, plain, form) in KINDS.items():
        (tmp_path / kind).write_bytes(form(json.dumps(plain).encode()))
        use(tmp_path / kind)
