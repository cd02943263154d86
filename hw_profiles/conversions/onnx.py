"""Programs as ONNX, and ONNX Runtime, which runs them.

    write_onnx(program, inputs, path, names=(("tokens",), ("logits",)))
    run = OnnxSession(path, threads=1)
    logits, *state = run(tokens)

Products of matrices can have weights of 8 or 4 bits (`to_few_bits`): MatMulNBits, an operator of ONNX
Runtime's own, with one scale for each group of a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from foundation.error_text import refused_as
from foundation.errors import ProfileError
from search_spaces.network.programs import silent

EXTRA = "onnx"
WRITES = ("onnx", "onnxscript")
RUNS = ("onnxruntime",)
"""The extra of this project, and the modules that write and that run such files."""

Names = tuple[Sequence[str], Sequence[str]]
"""What the inputs and the outputs of a program are called."""


def write_onnx(
    program: ExportedProgram, inputs: Sequence[Tensor], path: Path, *, names: Names, folded: bool = False
) -> None:
    """Write a program; with `folded`, constants are computed now, which takes minutes for long graphs.

    Raises:
        ProfileError: ONNX cannot express it.
    """
    with refused_as(ProfileError, "ONNX cannot express this network"), silent():
        written: Any = torch.onnx.export(
            program,
            tuple(inputs),
            dynamo=True,
            verbose=False,
            optimize=folded,
            input_names=list(names[0]),
            output_names=list(names[1]),
        )
        written.save(str(path))


def to_few_bits(path: Path, *, bits: int, group: int) -> int:
    """Store the weights of products in this file at 8 or 4 bits; how many products that are.

    Raises:
        ProfileError: they cannot be.
    """
    with refused_as(ProfileError, f"ONNX Runtime cannot store weights at {bits} bits"), silent():
        import onnx
        from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

        quantizer = MatMulNBitsQuantizer(
            onnx.load(str(path)), block_size=group, is_symmetric=True, bits=bits, accuracy_level=0
        )
        quantizer.process()
        quantizer.model.save_model_to_file(str(path), False)
        found: int = sum(node.op_type == "MatMulNBits" for node in quantizer.model.model.graph.node)
    return found


class OnnxSession:
    """A file in ONNX Runtime on the CPU, with so many threads of its own."""

    def __init__(self, path: Path, *, threads: int = 1) -> None:
        with refused_as(ProfileError, "ONNX Runtime"):
            import onnxruntime

            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
            options.log_severity_level = 3  # errors
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        self._inputs = [each.name for each in self._session.get_inputs()]

    def __call__(self, *inputs: Tensor) -> list[Tensor]:
        """Outputs of these inputs."""
        return [torch.from_numpy(each) for each in self.bound(*inputs)()]

    def bound(self, *inputs: Tensor) -> Any:
        """A call without arguments, on these inputs; it returns arrays."""
        feeds = {
            name: tensor.detach().contiguous().numpy()
            for name, tensor in zip(self._inputs, inputs, strict=True)
        }
        return lambda: self._session.run(None, feeds)
