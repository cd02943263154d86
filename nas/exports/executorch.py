"""ExecuTorch: model.pte with the methods `prefill` and `step`, for the XNNPACK kernels of phones.

    program = Runtime.get().load_program("DIR/model.pte")
    logits, *state = program.load_method("prefill").execute([tokens])          # [1, prompt] -> [1, prompt, V]
    logits, *state = program.load_method("step").execute([token, position, *state])

Shapes are static: sequences of one row, prompts of exactly `prompt` tokens. The state is passed in and out.

With `weights` of 8 or 4 bits, products of the layers have integer weights, rounded anew from those of the
network, beside activations of 8 bits, which XNNPACK rounds for each token; at 8 bits a row has one scale.
With `packed` the weights that have 8 or 4 bits in the network are stored as these integers. Printed are the
differences from the network that was given, and from our own rounding where that is another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from foundation.settings import setting
from hw_profiles.conversions import executorch
from hw_profiles.conversions.executorch import PteMethod
from hw_profiles.conversions.executorch_few_bits import KERNELS, integer_products
from hw_profiles.conversions.few_bits import few_bits_of
from hw_profiles.runtimes.placement import placed
from nas.exports.base import Network, targets
from nas.exports.programs import IntegerTarget, differences
from nas.modifiers.base import built_like
from nas.modifiers.quantize import Quantize
from search_spaces.network.decoder import Decoder
from search_spaces.network.model import Model
from search_spaces.network.programs import PARAMETERS, static_programs
from search_spaces.network.weight_formats import weight_bits
from search_spaces.quantization.bits import GROUPS
from search_spaces.quantization.kernels import factors_of
from search_spaces.quantization.rounding import round_all
from search_spaces.scenario import Scenario


@targets.add
@dataclass(frozen=True, kw_only=True)
class Executorch(IntegerTarget):
    """One file with two methods, checked in ExecuTorch."""

    name = "executorch"
    extra = executorch.EXTRA
    modules = executorch.MODULES

    group: int = setting(
        32, help="Weights of 4 bits that share a scale; of 8, those of a row do.", choices=(32, 64, 128, 256)
    )

    def unsupported(self, spec: Decoder) -> str:
        """See `Target.unsupported`; packed weights need kernels for their bits."""
        if reason := super().unsupported(spec):
            return reason
        for index, layer in enumerate(spec.layers) if self.packed else ():
            for place in layer.blocks:
                bits = layer.bits_at(place)
                if bits.weight < 16 and factors_of(bits) not in KERNELS:
                    return (
                        f"layers.{index}.{place} has {bits}, and XNNPACK has kernels for integer weights of 8"
                        " and 4 bits beside activations of 8: give the layer Bits(weight=4, activation=8), or"
                        " let weights=4 round anew"
                    )
        return ""

    def write_files(self, network: Network, folder: Path) -> Mapping[str, Any]:
        """See `Target.write_files`."""
        model = network.model if self.weights == 32 else self._rounded(network.model)
        integers = self.packed or self.weights < 32
        few = few_bits_of(model, KERNELS) if integers else {}
        # with integer weights, kernels round activations, and nothing has to emulate that
        made = static_programs(
            placed(model, Scenario()) if integers else model, prompt=self.prompt, capacity=self.capacity
        )
        prefill, _ = integer_products(made.prefill, few, prefix=PARAMETERS)
        step, products = integer_products(made.step, few, prefix=PARAMETERS)
        path = folder / "model.pte"
        executorch.write_pte({"prefill": prefill, "step": step}, path)
        methods = [PteMethod(path, name, threads=torch.get_num_threads()) for name in ("prefill", "step")]
        check = partial(differences, prompt=self.prompt, capacity=self.capacity)
        found = dict(check(network.model, *methods, rounded=self.weights < 32))
        if model is not network.model:
            found |= {f"{what}, from our rounding": each for what, each in check(model, *methods).items()}
        told = {"products_of_few_bits": products} if integers else {}
        return {**self.about(made), **told, "differences": found}

    @torch.no_grad()
    def _rounded(self, model: Model) -> Model:
        """The network with the weights of its layers rounded to nearest, and activations of 8 bits."""
        group = self.group if self.weights == 4 else GROUPS[-1]
        rounding = Quantize(bits=self.weights, group=group, method="nearest", activations=8)
        rounded = built_like(model, rounding.changed(model.spec))
        formats = {
            name: stored if stored and stored.bits < 16 else None
            for name, stored in weight_bits(rounded).items()
        }
        weights = round_all(dict(rounded.named_parameters()), formats)
        for name, weight in rounded.named_parameters():
            weight.copy_(weights[name])
        return rounded
