"""ONNX Runtime on the CPU (extra `onnx`): models as ONNX files, optimised and run by its own kernels.

Its threads are its own: as many as the scenario says, one of them the caller's. Packed weights of 8 and 4
bits run on its kernels for them (MatMulNBits), activations of 8 bits too. Blocks that ONNX cannot
express are illegal in such a scenario, with the reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor
from torch.export import ExportedProgram

from hw_profiles.conversions import onnx
from hw_profiles.conversions.few_bits import Few
from hw_profiles.conversions.onnx_few_bits import KERNELS, pack_products
from hw_profiles.runtimes.base import runtimes
from hw_profiles.runtimes.exported import ExportedRuntime
from hw_profiles.timing.timers import Call
from search_spaces.network.programs import PARAMETERS
from search_spaces.scenario import Scenario


class OnnxRuntime(ExportedRuntime):
    """Models as ONNX, with static shapes."""

    name = "onnxruntime"
    extra = onnx.EXTRA
    modules = (*onnx.WRITES, *onnx.RUNS)
    packages = ("torch", "onnxruntime", "onnxscript")
    suffix = ".onnx"
    packs = KERNELS

    def write(self, program: ExportedProgram, inputs: Sequence[Tensor], path: Path, few: Few) -> None:
        """See `ExportedRuntime.write`."""
        names = [f"input{i}" for i in range(len(inputs))]
        onnx.write_onnx(program, inputs, path, names=(names, ["logits"]))
        if few:
            pack_products(path, few, prefix=PARAMETERS)

    def load(self, path: Path, scenario: Scenario) -> onnx.OnnxSession:
        """See `ExportedRuntime.load`."""
        return onnx.OnnxSession(path, threads=scenario.threads)

    def bound(self, loaded: onnx.OnnxSession, inputs: tuple[Tensor, ...]) -> Call:
        """See `ExportedRuntime.bound`."""
        return loaded.bound(*inputs)


runtimes.add(OnnxRuntime())
