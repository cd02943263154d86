"""Items that wait for a worker, and the words for what became of a worker that was lost."""

from __future__ import annotations

import pytest

from nas.executors.base import WorkItem
from nas.executors.retries import TRIES, Queue

ray = pytest.importorskip("ray")

from nas.executors.losses import cause, chosen, with_log  # noqa: E402


def items(*numbers: int) -> list[WorkItem]:
    return [WorkItem(number, "spec", 0, 0) for number in numbers]


def numbers(batch: list[WorkItem]) -> list[int]:
    return [item.number for item in batch]


def test_new_items_are_sent_in_whole_batches_but_for_the_last() -> None:
    queue = Queue(2)
    queue.add(items(0, 1, 2))
    assert numbers(queue.take_batch(flush=False)) == [0, 1]
    assert queue.take_batch(flush=False) == []
    assert numbers(queue.take_batch(flush=True)) == [2]
    assert queue.take_batch(flush=True) == []


def test_what_is_put_back_keeps_its_order_and_goes_first() -> None:
    queue = Queue(10)
    queue.add(items(4))
    queue.put_back([items(0, 1), items(2, 3)])
    assert numbers(queue.take_batch(flush=True)) == [0, 1, 2, 3, 4]


def test_a_suspect_is_tried_alone_away_from_where_it_was_lost_and_not_for_ever() -> None:
    queue = Queue(10)
    (item,) = items(7)
    for node in ("a", "b")[: TRIES - 1]:
        assert queue.lost(item, node)
        assert queue.suspect_waits
        assert node in queue.avoided
        assert queue.take_batch(flush=True) == []
        queue.put_back([queue.take_suspect()])  # its cluster was lost before it was begun
        assert queue.take_suspect() == [item]
        assert queue.is_suspect(item)
    assert not queue.lost(item, "c")
    assert not queue.suspect_waits
    assert queue.avoided == set()
    assert queue.lost(item, "a"), "a later item of this number is another"


def test_an_item_with_an_outcome_is_no_suspect_any_more() -> None:
    queue = Queue(1)
    (item,) = items(1)
    queue.lost(item, "a")
    queue.take_suspect()
    queue.ended(item)
    assert not queue.is_suspect(item)


DIED = "The actor died unexpectedly before finishing this task.\n\tclass_name: Worker\n"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            f"{DIED}Worker exit detail: Worker exits with an exit code 4.",
            "its process ended with exit code 4",
        ),
        (f"{DIED}a connection error code 2. End of file.", "its process died, killed or by a crash"),
        (f"{DIED}The actor died because its node has died. Node Id: 7", "its node was lost"),
        (
            "1 worker(s) were killed due to the node running low on memory.\n"
            "Memory on the node (IP: 1, ID: 2) was 3.83GB used / 23.54GB limit (0.162524)",
            "out of memory: Ray ended it because its node ran out of memory, 3.83GB used / 23.54GB limit",
        ),
        (
            "ray::Worker()\n  File x\nModuleNotFoundError: No module named 'x'",
            "ModuleNotFoundError: No module named 'x'",
        ),
        ("", "RuntimeError"),
    ],
)
def test_what_became_of_a_worker_is_one_line(text: str, line: str) -> None:
    assert cause(RuntimeError(text)) == line


LOG = """:job_id:01000000
:actor_name:Worker
loading the table
*** SIGSEGV received at time=1795976913 on cpu 1 ***
PC: @     0x7ff3b8d85ad8  (unknown)  (unknown)
[2026-11-29 18:28:33,346 E 23036 23036] logging.cc:474: *** SIGSEGV received at time=1 on cpu 1 ***
Fatal Python error: Segmentation fault

Stack (most recent call first):
  File "ctypes/__init__.py", line 519 in string_at
  File "own.py", line 15 in score
  File "worker.py", line 1069 in main_loop
Extension modules: msgpack._cmsgpack, google._upb._message (total: 15)
"""


@pytest.mark.parametrize(
    ("log", "kept"),
    [
        (
            LOG,
            [
                "Fatal Python error: Segmentation fault",
                'File "ctypes/__init__.py", line 519 in string_at',
                'File "own.py", line 15 in score',
            ],
        ),
        (":job_id:01000000\n:actor_name:Worker\n", []),
        ("one\ntwo\nthree\nfour\n", ["two", "three", "four"]),
        ("x" * 1000, ["x" * 300]),
    ],
)
def test_of_a_log_its_last_error_is_kept(log: str, kept: list[str]) -> None:
    assert chosen(log.splitlines(keepends=True)) == kept


def test_a_log_adds_to_a_cause_what_it_does_not_hold() -> None:
    assert with_log("it died", []) == "it died"
    assert with_log("it died: Error: a", ["Error: a"]) == "it died: Error: a"
    assert with_log("it died", ["one", "two"]) == "it died; its log ends with: one | two"
