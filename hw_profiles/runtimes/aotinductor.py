"""AOTInductor: models compiled ahead of time into a shared library, with static shapes.

A scenario of several threads is run by torch's own threads. Compiling takes a C++ compiler.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from torch import Tensor
from torch.export import ExportedProgram

from hw_profiles.conversions.aotinductor import compile_package, load_package
from hw_profiles.conversions.few_bits import Few
from hw_profiles.runtimes.base import runtimes
from hw_profiles.runtimes.exported import ExportedRuntime
from hw_profiles.timing.timers import Call
from search_spaces.scenario import Scenario


class AotInductor(ExportedRuntime):
    """Models as compiled packages."""

    name = "aotinductor"
    suffix = ".pt2"

    def write(self, program: ExportedProgram, inputs: Sequence[Tensor], path: Path, few: Few) -> None:
        """See `ExportedRuntime.write`."""
        compile_package(program, path)

    def load(self, path: Path, scenario: Scenario) -> Callable[..., Sequence[Tensor]]:
        """See `ExportedRuntime.load`."""
        return load_package(path)

    def bound(self, loaded: Callable[..., Sequence[Tensor]], inputs: tuple[Tensor, ...]) -> Call:
        """See `ExportedRuntime.bound`."""
        return partial(loaded, *inputs)


runtimes.add(AotInductor())
