"""Checkpoints and descriptions of supernets made wrong at random are refused, or say what was written."""

from __future__ import annotations

import json
import shutil
from functools import lru_cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from evaluators.supernet.folder import open_supernet, progress, read_training
from tests.faults.limits import read_within_limits
from tests.faults.mutations import harmed_bytes, mutated
from tests.faults.situations import trained_supernet

pytestmark = pytest.mark.slow  # minutes: `make faults` runs them

FILES = 25
"""Folders that are read in one process."""

FUZZED = settings(
    max_examples=4,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # what fails is printed, not made smaller
    suppress_health_check=list(HealthCheck),
)


@lru_cache
def whole() -> dict[str, bytes]:
    """The files of a trained supernet."""
    return {path.name: path.read_bytes() for path in trained_supernet().iterdir()}


def weights() -> str:
    """The name of its checkpoint."""
    return next(name for name in whole() if name.endswith(".safetensors"))


def use(changed: Path) -> None:
    """Open a supernet of which this one file is another; what opens has the weights that were written."""
    folder = changed.with_suffix("")
    shutil.copytree(trained_supernet(), folder)
    shutil.copy(changed, folder / changed.name.partition("-")[2])
    open_supernet(folder)
    progress(folder)
    read_training(folder)
    if changed.name.endswith("supernet.json"):
        return
    # the header ends in spaces, which may be others
    there, written = (folder / weights()).read_bytes(), whole()[weights()]
    header = int.from_bytes(written[:8], "little") + 8
    assert there[:8] == written[:8]
    assert there[header:] == written[header:]
    assert json.loads(there[8:header]) == json.loads(written[8:header])


def read_all(folder: Path, name: str, contents: list[bytes]) -> None:
    """Use every one of these as the file of this name."""
    for i, content in enumerate(contents):
        (folder / f"{i}-{name}").write_bytes(content)
    read_within_limits(use, sorted(folder.iterdir()))


@given(data=st.data())
@FUZZED
def test_a_checkpoint_made_wrong_is_never_believed(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = whole()[weights()]
    files = data.draw(st.lists(harmed_bytes(content), min_size=FILES, max_size=FILES))
    read_all(tmp_path_factory.mktemp("weights"), weights(), files)


@pytest.mark.parametrize("name", ["supernet.json", "curve.json"])
@given(data=st.data())
@FUZZED
def test_a_description_made_wrong_is_refused_or_means_the_same(
    name: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    files = data.draw(st.lists(mutated(json.loads(whole()[name])), min_size=FILES, max_size=FILES))
    read_all(tmp_path_factory.mktemp("about"), name, files)
