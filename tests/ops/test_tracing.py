"""Marks for a compiler are those of PyTorch, and load no compiler."""

from __future__ import annotations

import subprocess
import sys

import torch

from search_spaces.ops.tracing import constant


def test_the_mark_is_that_of_pytorch() -> None:
    def ours() -> int:
        return 3

    def theirs() -> int:
        return 3

    assert constant(ours) is ours
    torch.compiler.assume_constant_result(theirs)  # type: ignore[no-untyped-call]
    assert vars(ours) == vars(theirs) != {}


def test_blocks_load_no_compiler() -> None:
    code = (
        "import sys; from search_spaces.blocks.base import blocks;"
        " print(len(blocks), 'torch._dynamo' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert int(said.split()[0]) > 20
    assert said.split()[1] == "False"
