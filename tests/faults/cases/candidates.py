"""Candidates that raise, leave or kill their process: each is a failed trial, and the study goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from nas.study.deaths import TRAINED_TRIES
from tests.faults.campaign import Case
from tests.forks import Ended, Fork

SPACE = """
import ctypes, os, signal, sys, warnings
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from search_spaces import Decoder, Layer, Space, one_of
from search_spaces.blocks.base import Block, Cost, Mixed, Mixer, blocks
from search_spaces.blocks.short_conv import ShortConv
from search_spaces.blocks.swiglu import SwiGLU
from search_spaces.language.serialization import parts


class Mixed_(Mixer):
    def __init__(self, d_model):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(d_model))

    def reset_parameters(self, dice):
        self.weight.fill_(1.0)

    def forward(self, x, state=None, position=0):
        if self.training and x.shape[-1] in (8, 16):  # not where blocks are checked before the search
            {hostile}
        return Mixed(x * self.weight, state)


class Unprintable(Exception):
    def __str__(self):
        raise RuntimeError("no text")


class Leaving(BaseException):
    pass


def recursive():
    recursive()


@blocks.add
@dataclass(frozen=True, kw_only=True)
class Hostile(Block):
    mixes: ClassVar = "channels"

    def build(self, d_model):
        return Mixed_(d_model)

    def cost(self, d_model, scenario):
        {cost}
        return Cost(params=d_model)


convolution = ShortConv(kernel=one_of(2, 3, 4, 5))
layer = Layer(sequence_mixer=convolution, channel_mixer=one_of(SwiGLU(expansion=1), Hostile()))
space = Space(Decoder(d_model=one_of(8, 16), layers=(layer,)), name="hostile")
"""

TRAINED = (
    "search space.py --name a -o bits_per_byte -o params --evaluator scratch --finalists 0 --trials 8"
    " --train-steps 1 --train-batch 1 --window 8 --validation-windows 2 --data text.txt --strategy random"
    " --seed 3"
)


def files(hostile: str = "pass", cost: str = "pass") -> dict[str, str]:
    return {
        "space.py": SPACE.format(hostile=hostile, cost=cost),
        "text.txt": "the cat sat on a mat and the dog ate a hat; " * 1000,
    }


def failed(reason: str) -> Callable[[Path, Ended], None]:
    """The hostile candidates failed with this reason, in one line, and all others have scores."""

    def check(folder: Path, ended: Ended) -> None:
        from nas.store import Store
        from nas.study.trial import TrialState

        with Store(str(folder / "studies" / "studies.db"), read_only=True) as store:
            trials = store.trials(store.study("a").id)
        hostile = [trial for trial in trials if "Hostile" in str(trial.genotype.to_json())]
        assert hostile
        assert len(hostile) < len(trials)
        for trial in trials:
            state = TrialState.FAILED if trial in hostile else TrialState.COMPLETE
            assert trial.state is state, trial
        for trial in hostile:
            assert trial.reason is not None
            assert trial.reason.startswith(reason), trial.reason
            assert len(trial.reason) <= 300
            assert trial.reason.isprintable()

    return check


def dies(times: int) -> Callable[[Path], None]:
    """Run the search so many times, each of which its candidate ends."""

    def prepare(folder: Path) -> None:
        for _ in range(times):
            code = Fork(_search_in, str(folder)).wait().returncode
            assert code != 0

    return prepare


def _search_in(folder: str) -> None:
    import os

    from tests.forks import run_main

    os.chdir(folder)
    run_main(tuple(TRAINED.split()))


RAISED = (
    ("sys.exit", "sys.exit()", "SystemExit"),
    ("sys.exit with a code", "sys.exit(3)", "SystemExit: 3"),
    ("sys.exit with a text", "sys.exit('no more')", "SystemExit: no more"),
    ("KeyboardInterrupt", "raise KeyboardInterrupt", "KeyboardInterrupt"),
    ("GeneratorExit", "raise GeneratorExit", "GeneratorExit"),
    ("StopIteration", "next(iter(()))", "StopIteration"),
    ("an exception that is none", "raise Leaving('bye')", "Leaving: bye"),
    ("endless recursion", "recursive()", "RecursionError: maximum recursion depth"),
    ("MemoryError", "raise MemoryError('1 TB')", "out of memory: 1 TB"),
    ("more memory than there is", "torch.empty(10**15)", "out of memory: "),
    ("AssertionError", "assert False", "AssertionError"),
    ("a division by zero", "1 // 0", "ZeroDivisionError"),
    ("a text that raises", "raise Unprintable()", "Unprintable: (its text raises RuntimeError)"),
    ("a megabyte of text", "raise ValueError('x' * 10**6)", "ValueError: xxx"),
    ("a hundred lines", "raise ValueError('a\\n' * 100)", "ValueError: a a a"),
    ("colours", "raise ValueError('\\x1b[31mred\\x1b[0m\\x07')", "ValueError: red"),
    ("a lone surrogate", "raise ValueError('\\ud800x')", "ValueError: x"),
    ("a zero byte", "raise ValueError('a\\x00b')", "ValueError: a b"),
    ("a warning that is an error", "raise DeprecationWarning('old')", "DeprecationWarning: old"),
    ("a wrong shape", "x = x[:, :3]", "RuntimeError"),
    ("not a number", "x = x * float('nan')", "the training loss is nan"),
    ("infinite outputs", "x = x * float('inf')", "the training loss is nan"),
    ("a closed standard output", "sys.stdout = None; raise ValueError('mute')", "ValueError: mute"),
    ("an error of the operating system", "open('/nowhere/at/all')", "FileNotFoundError"),
)

KILLED = (
    ("os._exit", "os._exit(7)"),
    ("os._exit with 0", "os._exit(9)"),
    ("SIGKILL", "os.kill(os.getpid(), signal.SIGKILL)"),
    ("os.abort", "os.abort()"),
    ("a segmentation fault", "ctypes.string_at(0)"),
    ("exit of the C library", "ctypes.CDLL(None)._exit(5)"),
)

CASES = [
    *(
        Case(
            f"a candidate with {name}",
            TRAINED,
            code=0,
            says="distinct architecture",
            files=files(hostile),
            check=failed(reason),
            lines=20,
            seconds=20,
            megabytes=2000,
            slow=name not in ("sys.exit", "KeyboardInterrupt", "colours"),
        )
        for name, hostile, reason in RAISED
    ),
    *(
        Case(
            f"a candidate that ended its process by {name} as often as it is tried",
            "resume a",
            code=0,
            says="distinct architecture",
            files=files(hostile),
            prepare=dies(TRAINED_TRIES),
            check=failed(f"the process died while it was scored, {TRAINED_TRIES} times"),
            lines=20,
            seconds=20,
            megabytes=2000,
            slow=True,
        )
        for name, hostile in KILLED
    ),
    Case(
        "a candidate that ends its process",
        TRAINED,
        code=7,
        files=files("os._exit(7)"),
        lines=20,
        seconds=20,
        megabytes=2000,
        slow=True,
        leaves_nothing=False,
    ),
    Case(
        "a candidate that interrupts, as a person would",
        TRAINED,
        code=130,
        says="stopped; the study is intact: nas resume a",
        files=files("signal.raise_signal(signal.SIGINT)"),
        lines=20,
        seconds=20,
        megabytes=2000,
    ),
]
