"""Run the promises on a block: all, or before a search the quick ones."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import torch

from foundation.errors import IllegalArchitecture
from search_spaces.block_contract.promise import BrokenPromise, Promise, Subject, promises
from search_spaces.blocks.base import Block

AnyBlock: TypeAlias = "type[Block] | Block"
"""A kind of block, which is checked by its examples, or a closed block."""

WIDTHS = (20, 16, 24, 32, 48, 64, 96, 128, 256)
"""Widths that are tried, in this order, until a block can have one."""


@dataclass(frozen=True)
class BlockCheck:
    """One promise of one block at one width; call it to check."""

    promise: Promise
    subject: Subject

    def __str__(self) -> str:
        return f"{self.subject.spec}: {self.promise}"

    def __call__(self) -> None:
        """Raise `BrokenPromise` where the block does not keep the promise."""
        try:
            self.promise.check(self.subject)
        except BrokenPromise as error:
            raise BrokenPromise(f"{self.subject.spec}: {error}") from error.__cause__
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a user's code may raise anything; its line is what helps
            first = (str(error).strip() or "without a reason").splitlines()[0]
            what = f"{type(error).__name__}: {first}{_place(error)}"
            raise BrokenPromise(f"{self.subject.spec}: {self.promise}: {what}") from error


def block_checks(block: AnyBlock, d_model: int | None = None, *, quick: bool = False) -> list[BlockCheck]:
    """All checks of a block's examples, or of a closed block, at `d_model` or a width that suits it.

    Raises:
        BrokenPromise: there is no example, or none of the usual widths suits it.
    """
    chosen = [promise for promise in promises.values() if promise.quick or not quick]
    return [BlockCheck(promise, subject) for subject in _subjects(block, d_model) for promise in chosen]


def broken_promises(block: AnyBlock, d_model: int | None = None, *, quick: bool = False) -> list[str]:
    """What is wrong with a block, a line each; empty where it keeps every promise."""
    try:
        checks = block_checks(block, d_model, quick=quick)
    except BrokenPromise as error:
        return [str(error)]
    return list(_broken(checks))


def check_block(block: AnyBlock, d_model: int | None = None, *, quick: bool = False) -> None:
    """Hold a block to everything that blocks promise; `quick` leaves out what takes seconds.

    Raises:
        BrokenPromise: with one line for each promise that is broken.
    """
    if broken := broken_promises(block, d_model, quick=quick):
        raise BrokenPromise("\n".join(broken))


def _broken(checks: Sequence[BlockCheck]) -> Iterator[str]:
    for check in checks:
        try:
            check()
        except BrokenPromise as error:
            yield str(error)


def _subjects(block: AnyBlock, d_model: int | None) -> list[Subject]:
    if isinstance(block, Block):
        return [Subject(block, d_model or _width_of(block))]
    if not (isinstance(block, type) and issubclass(block, Block)):
        raise BrokenPromise(f"{block!r} is no block: a block is a class derived from Block")
    if missing := sorted(getattr(block, "__abstractmethods__", ())):
        raise BrokenPromise(f"{block.__name__} has no {', '.join(missing)}")
    try:
        examples = block.examples()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        reason = f"examples() raises {type(error).__name__}: {error}"
        raise BrokenPromise(f"{block.__name__}: {reason}; return a tuple of small blocks") from error
    if not examples:
        raise BrokenPromise(f"{block.__name__}: examples() gives none: return a tuple of small blocks")
    return [Subject(example, d_model or _width_of(example)) for example in examples]


def _width_of(spec: Block) -> int:
    reason = ""
    for width in WIDTHS:
        try:
            spec.check(width)
        except IllegalArchitecture as error:
            reason = reason or str(error)
        else:
            return width
    raise BrokenPromise(f"{spec}: none of the widths {', '.join(map(str, WIDTHS))} is allowed: {reason}")


def _place(error: BaseException) -> str:
    """The last line that an error came through outside PyTorch and the checks themselves."""
    own, theirs = str(Path(__file__).parent), str(Path(torch.__file__).parent)
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame for frame in frames if not frame.filename.startswith((own, theirs))]
    return f" ({lines[-1].filename}:{lines[-1].lineno})" if lines else ""
