"""What all tests share: one thread each, because two test processes share the cores, and no network.

Examples of properties have no deadline, because a busy machine is no failure.
Sums are made in one order, as `import nas` asks for: a slice is its copy bit for bit.
"""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_CBWR", "AUTO")

import random
import signal
import sys

import hypothesis
import pytest
import torch

from search_spaces.blocks.base import blocks

torch.set_num_threads(1)

os.environ.pop("COLUMNS", None)  # xdist gives its workers 80 columns; tests run as without a terminal

# a shell starts what runs in the background with Ctrl-C ignored, nohup with SIGHUP, and children inherit that
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# where a change is judged, its tests must not fail by the luck of another change's draw
hypothesis.settings.register_profile("tests", deadline=None, derandomize="CI" in os.environ)
hypothesis.settings.load_profile("tests")


@pytest.fixture(autouse=True)
def _random_numbers_of_a_test_do_not_depend_on_the_tests_before() -> None:
    torch.manual_seed(0)
    random.seed(0)


@pytest.fixture(autouse=True)
def _blocks_of_a_test_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """A block that a space file registers must not be found by the tests that come after."""
    monkeypatch.setattr(blocks, "_things", {name: blocks[name] for name in blocks})


@pytest.fixture(autouse=True)
def _folders_of_a_test_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module beside a file that was run must not be found by the tests that come after."""
    monkeypatch.setattr(sys, "path", list(sys.path))
