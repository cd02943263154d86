"""Programs as files of ExecuTorch (.pte) for its XNNPACK kernels, and ExecuTorch, which runs them.

    write_pte({"prefill": prefill, "step": step}, path)
    run = PteMethod(path, "step", threads=1)
    logits, *state = run(token, position, *state)

What XNNPACK has no kernel for runs on ExecuTorch's portable ones, which are slow. See
docs.pytorch.org/executorch. Its remainder of integers is that of C: what is negative stays so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from foundation.error_text import refused_as
from foundation.errors import ProfileError
from search_spaces.network.programs import silent

EXTRA, MODULES = "executorch", ("executorch",)

SHIFTS: Mapping[Any, Any] = {
    torch.ops.aten.__lshift__.Scalar: torch.ops.aten.bitwise_left_shift.Tensor_Scalar,
    torch.ops.aten.__rshift__.Scalar: torch.ops.aten.bitwise_right_shift.Tensor_Scalar,
}
"""Shifts by a number as PyTorch traces them, and the operators that compute the same."""


def write_pte(programs: Mapping[str, ExportedProgram], path: Path) -> None:
    """Write programs as the methods of one file.

    Raises:
        ProfileError: ExecuTorch cannot express one.
    """
    with refused_as(ProfileError, "ExecuTorch cannot express this network"), silent():
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import EdgeCompileConfig, to_edge_transform_and_lower

        for program in programs.values():
            _name_shifts(program)
        lowered: Any = to_edge_transform_and_lower(
            dict(programs),
            partitioner=[XnnpackPartitioner()],
            compile_config=EdgeCompileConfig(_core_aten_ops_exception_list=list(SHIFTS.values())),
        )
        content: bytes = lowered.to_executorch().buffer
    path.write_bytes(content)


def _name_shifts(program: ExportedProgram) -> None:
    """Let shifts, with which states of 4 bits are packed, have the names that ExecuTorch has kernels for."""
    for node in program.graph.nodes:
        node.target = SHIFTS.get(node.target, node.target)


class PteMethod:
    """A method of a file in ExecuTorch, with so many threads for all methods of the process."""

    def __init__(self, path: Path, name: str, *, threads: int = 1) -> None:
        with refused_as(ProfileError, "ExecuTorch"), silent():
            from executorch.extension.pybindings import portable_lib
            from executorch.runtime import Runtime, Verification

            library: Any = portable_lib
            library._unsafe_reset_threadpool(threads)
            self._program = Runtime.get().load_program(path, verification=Verification.Minimal)
            self._method: Any = self._program.load_method(name)
        assert self._method is not None

    def __call__(self, *inputs: Tensor) -> Sequence[Tensor]:
        """Outputs of these inputs."""
        return [each.clone() for each in self.bound(*inputs)()]

    def bound(self, *inputs: Tensor) -> Callable[[], Sequence[Tensor]]:
        """A call without arguments, on these inputs; the next call may overwrite what it returns."""
        given = [each.detach().contiguous() for each in inputs]
        return lambda: self._method.execute(given)
