"""ExecuTorch on the CPU (extra `executorch`): what runs models on phones, with the kernels of XNNPACK.

Its threads are its own: as many as the scenario says. What XNNPACK lacks runs on slow portable kernels; a
block that ExecuTorch cannot express at all is illegal in such a scenario, with the reason. Packed weights of
8 and 4 bits run on its integer kernels where their layer has activations of 8 bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor
from torch.export import ExportedProgram

from hw_profiles.conversions import executorch
from hw_profiles.conversions.executorch import PteMethod
from hw_profiles.conversions.executorch_few_bits import KERNELS, integer_products
from hw_profiles.conversions.few_bits import Few
from hw_profiles.runtimes.base import runtimes
from hw_profiles.runtimes.exported import ExportedRuntime
from hw_profiles.timing.timers import Call
from search_spaces.network.programs import PARAMETERS
from search_spaces.scenario import Scenario

METHOD = "forward"


class ExecuTorch(ExportedRuntime):
    """Models as .pte files, with static shapes."""

    name = "executorch"
    extra = executorch.EXTRA
    modules = executorch.MODULES
    packages = ("torch", "executorch")
    suffix = ".pte"
    packs = KERNELS

    def write(self, program: ExportedProgram, inputs: Sequence[Tensor], path: Path, few: Few) -> None:
        """See `ExportedRuntime.write`."""
        program, _ = integer_products(program, few, prefix=PARAMETERS)
        executorch.write_pte({METHOD: program}, path)

    def load(self, path: Path, scenario: Scenario) -> PteMethod:
        """See `ExportedRuntime.load`."""
        return PteMethod(path, METHOD, threads=scenario.threads)

    def bound(self, loaded: PteMethod, inputs: tuple[Tensor, ...]) -> Call:
        """See `ExportedRuntime.bound`."""
        return loaded.bound(*inputs)


runtimes.add(ExecuTorch())
