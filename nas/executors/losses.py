"""Why a worker was lost, in one line: what Ray knows of its end, and the last words of its log.

its process died, killed or by a crash; its log ends with: Fatal Python error: Segmentation fault
its process ended with exit code 4
Ray ended it because the node ran out of memory, 3.83GB used / 23.54GB limit
its node was lost
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray
from ray._private.worker import global_worker
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

LINES, LETTERS = 3, 300
"""How much of a log is kept: lines, and letters in all."""

LOOKED_AT = 60
"""Lines at the end of a log among which an error is looked for."""

READ_SECONDS = 5.0
"""How long the log of another node is waited for."""

_RAISED = re.compile(r"\w[\w.]*(Error|Exception|Interrupt|Exit)\b(: |$)")
_FATAL = re.compile(r"Fatal Python error|\w(Error|Exception)\b|terminate called|Assertion|assert failed")
_OWN_LINES = re.compile(r":\w+:|\[\d{4}-|\*\*\* |PC: @|\s+@ |Extension modules|Stack \(most|$")
"""What Ray and Python write into a log around the words that matter."""


def cause(error: BaseException) -> str:
    """One line: the exception itself where one was raised in an actor, else what happened to the actor."""
    text = str(error).strip()
    first, *more = text.splitlines() or [type(error).__name__]
    if raised := [line for line in more if _RAISED.match(line)]:
        return raised[-1]
    if isinstance(error, ray.exceptions.OutOfMemoryError) or "running low on memory" in text:
        used = re.search(r"was ([\d.]+\w+ used / [\d.]+\w+ limit)", text)
        told = f", {used[1]}" if used else ""
        return f"out of memory: Ray ended it because its node ran out of memory{told}"
    if code := re.search(r"exits with an exit code (-?\d+)", text):
        return f"its process ended with exit code {code[1]}"
    if "node has died" in text or "node failure" in text.lower() or "NODE_DIED" in text:
        return "its node was lost"
    if "connection error code" in text:
        return "its process died, killed or by a crash"
    return first


def with_log(why: str, log: Sequence[str]) -> str:
    """A cause with the last words of a log, where there are any that it does not hold already."""
    said = " | ".join(line for line in log if line not in why)
    return f"{why}; its log ends with: {said}" if said else why


def log_of(node: str, process: int) -> list[str]:
    """The last words in the log of a process on a node; none where the node does not answer in time."""
    if node == ray.get_runtime_context().get_node_id():
        return last_words(process)
    there = NodeAffinitySchedulingStrategy(node, soft=False)
    read = ray.remote(num_cpus=0, max_retries=0)(last_words).options(scheduling_strategy=there)
    try:
        words: list[str] = ray.get(read.remote(process), timeout=READ_SECONDS)
    except ray.exceptions.RayError:  # the node is gone, too
        return []
    return words


def last_words(process: int) -> list[str]:
    """The last lines that a process of this node has written to standard error, from its last error on."""
    here: Any = global_worker.node
    folder = Path(here.get_logs_dir_path())
    for file in folder.glob(f"worker-*-{process}.err"):
        with file.open(errors="replace") as lines:
            return chosen(deque(lines, LOOKED_AT))
    return []


def chosen(lines: Sequence[str] | deque[str]) -> list[str]:
    """The few lines that tell most: from the last error on, else the last."""
    own = [line.strip() for line in lines if not _OWN_LINES.match(line)]
    errors = [place for place, line in enumerate(own) if _FATAL.search(line)]
    kept = own[errors[-1] :][:LINES] if errors else own[-LINES:]
    room = LETTERS
    short = []
    for line in kept:
        short.append(line[:room])
        room -= len(line)
        if room <= 0:
            break
    return short
