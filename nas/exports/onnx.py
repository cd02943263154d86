"""ONNX: prefill.onnx and step.onnx, with the decode state as inputs and outputs; they run in ONNX Runtime.

    prefill = onnxruntime.InferenceSession("DIR/prefill.onnx")
    logits, *state = prefill.run(None, {"tokens": tokens})         # int64 [B, T] -> float32 [B, T, V]

The step takes `token` [B], `position` (a scalar) and the state by its names, and gives `logits` [B, V] and
the new state, whose names begin with `new.`. With `weights` of 8 or 4 bits, products have integer weights
(MatMulNBits), rounded anew from those of the network: the printed difference is then that of rounding. With
`packed` the weights that have 8 or 4 bits in the network are stored as these integers, and the printed
difference is that of the kernels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from foundation.settings import setting
from hw_profiles.conversions import onnx
from hw_profiles.conversions.few_bits import few_bits_of
from hw_profiles.conversions.onnx_few_bits import KERNELS, pack_products
from hw_profiles.runtimes.placement import placed
from nas.exports.base import Network, targets
from nas.exports.programs import IntegerTarget, differences
from search_spaces.network.programs import BATCH, PARAMETERS, export_programs, flat_state
from search_spaces.scenario import Scenario


@targets.add
@dataclass(frozen=True, kw_only=True)
class Onnx(IntegerTarget):
    """Two ONNX files, checked in ONNX Runtime."""

    name = "onnx"
    extra = onnx.EXTRA
    modules = (*onnx.WRITES, *onnx.RUNS)

    group: int = setting(32, help="Weights that share a scale.", choices=(16, 32, 64, 128, 256))

    def write_files(self, network: Network, folder: Path) -> Mapping[str, Any]:
        """See `Target.write_files`."""
        # with integer weights, kernels round activations, and nothing has to emulate that
        model = placed(network.model, Scenario()) if self.packed else network.model
        made = export_programs(model, prompt=self.prompt, capacity=self.capacity)
        tokens = torch.zeros(BATCH, self.prompt, dtype=torch.long)
        state = flat_state(network.model, network.model.init_state(BATCH, self.capacity).layers)
        written = {
            folder / "prefill.onnx": (made.prefill, [tokens], ["tokens"], ""),
            folder / "step.onnx": (
                made.step,
                [tokens[:, 0], torch.tensor(self.prompt), *state],
                ["token", "position", *made.state],
                "new.",
            ),
        }
        products = 0
        for path, (program, inputs, names, new) in written.items():
            outputs = ["logits", *(f"{new}{name}" for name in made.state)]
            onnx.write_onnx(program, inputs, path, names=(names, outputs), folded=not self.packed)
            if self.packed:
                products = pack_products(path, few_bits_of(model, KERNELS), prefix=PARAMETERS)
            elif self.weights < 32:
                products = onnx.to_few_bits(path, bits=self.weights, group=self.group)
        few = {"products_of_few_bits": products} if self.packed or self.weights < 32 else {}
        sessions = [onnx.OnnxSession(path) for path in written]
        check = partial(differences, prompt=self.prompt, capacity=self.capacity, rounded=self.weights < 32)
        found = check(network.model, *sessions)
        return {**self.about(made), **few, "differences": found}
