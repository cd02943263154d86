"""ExecuTorch: model.pte with the methods `prefill` and `step`, for the XNNPACK kernels of phones.

    program = Runtime.get().load_program("DIR/model.pte")
    logits, *state = program.load_method("prefill").execute([tokens])          # [1, prompt] -> [1, prompt, V]
    logits, *state = program.load_method("step").execute([token, position, *state])

Shapes are static: sequences of one row, prompts of exactly `prompt` tokens. The state is passed in and out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hw_profiles.conversions import executorch
from hw_profiles.conversions.executorch import PteMethod
from nas.exports.base import Network, targets
from nas.exports.programs import ProgramTarget, differences
from search_spaces.network.programs import static_programs


@targets.add
@dataclass(frozen=True, kw_only=True)
class Executorch(ProgramTarget):
    """One file with two methods, checked in ExecuTorch."""

    name = "executorch"
    extra = executorch.EXTRA
    modules = executorch.MODULES

    def write_files(self, network: Network, folder: Path) -> Mapping[str, Any]:
        """See `Target.write_files`."""
        made = static_programs(network.model, prompt=self.prompt, capacity=self.capacity)
        path = folder / "model.pte"
        executorch.write_pte({"prefill": made.prefill, "step": made.step}, path)
        methods = [PteMethod(path, name, threads=torch.get_num_threads()) for name in ("prefill", "step")]
        found = differences(network.model, *methods, prompt=self.prompt, capacity=self.capacity)
        return {**self.about(made), "differences": found}
