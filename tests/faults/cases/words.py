"""Words that say nothing, contradict each other or lead nowhere: refused before anything is made."""

from __future__ import annotations

import atexit
import shutil
from functools import lru_cache
from pathlib import Path
from tempfile import mkdtemp

from tests.faults.campaign import Case, ran
from tests.faults.stored import copied, made_studies

TINY = """
from search_spaces import Decoder, Layer, Space, one_of
from search_spaces.blocks.short_conv import ShortConv

layer = Layer(sequence_mixer=ShortConv(kernel=one_of(2, 3)))
space = Space(Decoder(d_model=one_of(8, 16), layers=(layer,)), name="tiny")
"""
FILES = {"tiny.py": TINY, "text.txt": "the cat sat on a mat and the dog ate a hat; " * 1000}
STARTED = "search tiny.py --name a -o params --finalists 0 --trials 2"
LEARNED = (
    "search tiny.py --name a -o bits_per_byte -o params --trials 2 --train-steps 1 --train-batch 1 --window 8"
    " --validation-windows 2"
    " --data text.txt"
)
studies = copied(made_studies)


@lru_cache
def _search() -> Path:
    folder = Path(mkdtemp(prefix="nas-situation-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder / "tiny.py").write_text(TINY)
    ran(folder, STARTED)
    return folder


started = copied(_search)


EMPTY = (
    ("a model to generate with", "generate ''"),
    ("a report", "report laptop -o ''"),
    ("a comparison", "compare laptop second -o ''"),
    ("a card", "devices --measure-peaks cpu -o ''"),
    ("a table", "profile laptop -o ''"),
    ("a table to import", "profile import ''"),
    ("a supernet", "supernet train laptop -o ''"),
    ("a supernet to look at", "supernet info ''"),
    ("a copy", "cp laptop ''"),
    ("a store to copy to", "cp laptop --to ''"),
    ("a scenario", "search laptop --name a --scenario ''"),
    ("a scenario of commas", "search laptop --name a --scenario ,,"),
)

IN_MEMORY = ("sqlite://", "sqlite:///:memory:", ":memory:")

ALONE = (("--gpu-share", "1"), ("--worker-threads", "2"), ("--candidates-per-message", "5"))

CASES = [
    *(
        Case(f"nothing as {what}", command, says="must not be empty", files=FILES, prepare=studies)
        for what, command in EMPTY
    ),
    *(
        Case(f"{command.split()[0]} in a store {store}", f"{command} --store {store}", says="would be lost")
        for store in IN_MEMORY
        for command in ("search laptop --name a", "ls", "resume a", "front a")
    ),
    Case("a store in memory by the environment", "ls", says="lost", environment={"NAS_STORE": "sqlite://"}),
    *(
        Case(
            f"{option} without workers: {command.split()[0]}",
            f"{command} {option} {value}",
            says=f"{option} {value}.* needs --workers",
            files=FILES,
            prepare=started,
        )
        for option, value in ALONE
        for command in ("resume a", "validate a", STARTED)
    ),
    Case(
        "a pick in a study without finalists",
        "resume a --also-train 0",
        says="study a trains no finalists",
        files=FILES,
        prepare=started,
    ),
    *(
        Case(
            f"another {option} than the study was started with",
            f"{STARTED} {given}",
            says=f"started with {option} .*, not {option} .*: choose another name",
            files=FILES,
            prepare=started,
        )
        for option, given in (
            ("--objective", "-o decode_flops"),
            ("--finalist-steps", "--finalist-steps 5,6"),
            ("--train-steps", "--train-steps 7"),
            ("--strategy", "--strategy random"),
        )
    ),
    *(
        Case(
            f"darts along {cost}, which the study does not ask for",
            f"{LEARNED} --engine darts --setting cost={cost}",
            says=f"cost={cost} must be one of the study's objectives",
            files=FILES,
        )
        for cost in ("decode_ms", "prefill_ms")
    ),
]
