"""A wrong block is caught by the contract, with a line that says what is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from search_spaces import BrokenPromise, block_checks, check_block
from search_spaces.block_contract import broken_promises
from search_spaces.blocks.attention import Attention
from search_spaces.blocks.base import Block
from tests.blocks import wrong_blocks as made
from tests.blocks.wrong_blocks import EMA, wrong

WRONG: list[tuple[str, Callable[[], type[Block]], str, bool]] = [
    # name, block, what is said of it, whether the quick checks before a search see it
    (
        "decode off by half",
        lambda: wrong(made.HalfStep),
        r"step \(position: an int\) and forward differ",
        True,
    ),
    ("looks ahead", lambda: wrong(made.LooksAhead), "a token sees its future", True),
    (
        "state key of another name",
        lambda: wrong(made.OtherKey),
        r"KeyError: 'hidden'.*wrong_blocks.py:\d+",
        True,
    ),
    (
        "step renames the state",
        lambda: wrong(made.RenamedKey),
        r"step gives the state \['memory'\], declared is \['h'\]",
        True,
    ),
    ("forward drops the state", lambda: wrong(made.ForgetsState), "returned none: return Mixed", True),
    (
        "state of the wrong shape",
        lambda: wrong(state=made.wrong_shape),
        r"size of tensor a \(21\).*wrong_blocks.py:\d+",
        True,
    ),
    (
        "state of the wrong type",
        lambda: wrong(made.RoundedState),
        r"'h' as torch.bfloat16 .*declared is torch.float32",
        True,
    ),
    (
        "running sum in bfloat16",
        lambda: wrong(made.RoundedStep, state=made.inexact, examples=made.slow_decay),
        "exact=True",
        False,
    ),
    ("output of the wrong type", lambda: wrong(made.WideOutput), "forward gives torch.float32", True),
    ("rows see each other", lambda: wrong(made.MixesBatch), "rows see each other", True),
    (
        "needs contiguous inputs",
        lambda: wrong(made.NeedsContiguous),
        r"RuntimeError: view size.*wrong_blocks.py",
        True,
    ),
    ("writes into its input", lambda: wrong(made.WritesInput), "forward writes into its input", True),
    ("views its weights", lambda: wrong(made.ViewsWeight), r"leading slice.*RuntimeError: view size", True),
    ("a buffer", lambda: wrong(made.HasBuffer), "make scale a parameter", True),
    ("global random numbers", lambda: wrong(made.GlobalDice), "pass generator=dice", True),
    ("a seed of its own", lambda: wrong(made.OwnDice), "everything alike from different dice", True),
    (
        "leaves the process",
        lambda: wrong(made.LeavesProcess),
        r"SystemExit: no more \(.*wrong_blocks.py:\d+\)",
        True,
    ),
    ("parameters left empty", lambda: wrong(made.LeavesEmpty), "does not fill 'weight'", True),
    ("weights cut off", lambda: wrong(made.Detached), "outputs depend on no parameter", True),
    (
        "a position as a Python number",
        lambda: wrong(made.ReadsPosition),
        "prefill and step can be exported: ",
        False,
    ),
    ("no memory", lambda: wrong(made.Memoryless), "no token sees the one before it", True),
    (
        "other numbers for long texts",
        lambda: wrong(made.ByLength),
        "step .* and forward differ in a text of 64",
        True,
    ),
    (
        "cost of one parameter",
        lambda: wrong(cost=made.one_parameter),
        r"cost says 1 parameters.*allocates 400",
        True,
    ),
    (
        "cost without the batch",
        lambda: wrong(cost=made.no_batch),
        r"cost says prefill_flops=32000 .* are 64000",
        True,
    ),
    ("an axis without a letter", lambda: wrong(layout=made.missing_axis), "layout of weight is D, its", True),
    (
        "sorted, though it has an order",
        lambda: wrong(layout=made.sorted_without_partner),
        "F is declared sortable",
        True,
    ),
    ("no such kind", lambda: wrong(mixes="tokens"), "mixes must be", True),
    (
        "no example",
        lambda: wrong(examples=classmethod(lambda kind: ())),
        "return a tuple of small blocks",
        True,
    ),
]


@pytest.mark.parametrize(("block", "says", "quick"), [w[1:] for w in WRONG], ids=[w[0] for w in WRONG])
def test_a_wrong_block_is_caught_and_told_what_is_wrong(
    block: Callable[[], type[Block]], says: str, quick: bool
) -> None:
    found = broken_promises(block(), quick=quick)
    assert any(re.search(says, line) for line in found), found
    assert all("\n" not in line for line in found)


def test_a_right_block_keeps_every_promise() -> None:
    kind = wrong()
    check_block(kind)
    check_block(kind(decay=0.5), 7)


def test_parameters_may_begin_as_constants() -> None:
    assert not broken_promises(wrong(made.StartsAsConstant), quick=True)


def test_one_error_lists_all_that_is_broken() -> None:
    with pytest.raises(BrokenPromise) as error:
        check_block(wrong(made.LooksAhead, cost=made.one_parameter), quick=True)
    assert len(str(error.value).splitlines()) > 1


@pytest.mark.parametrize("check", block_checks(Attention, quick=True)[:3], ids=str)
def test_checks_are_tests_of_ones_own(check: Callable[[], None]) -> None:
    check()


def test_a_block_that_is_not_registered_or_not_frozen_is_told_so() -> None:
    assert any("write @blocks.add" in line for line in broken_promises(EMA, quick=True))

    class Loose(EMA):
        decay: Any

        def __init__(self) -> None:
            object.__setattr__(self, "decay", 0.9)

        __setattr__ = object.__setattr__

    assert any("not frozen" in line for line in broken_promises(Loose, quick=True))


def test_what_is_no_block_is_refused() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Half(Block):  # type: ignore[misc]
        mixes: Any = "channels"

    assert broken_promises(Half) == ["Half has no build, cost"]
    with pytest.raises(BrokenPromise, match="is no block"):
        block_checks(int)  # type: ignore[arg-type]
