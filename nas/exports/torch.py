"""Programs of torch.export, prefill.pt2 and step.pt2: they run in PyTorch without this project.

    prefill, step = (torch.export.load(f"DIR/{name}.pt2").module() for name in ("prefill", "step"))
    logits, *state = prefill(tokens)                                # [B, T] -> [B, T, V]
    logits, *state = step(token, torch.tensor(T), *state)           # [B] -> [B, V], at position T

With `packages` there are also prefill.aoti.pt2 and step.aoti.pt2, compiled by AOTInductor for this kind of
processor: `torch._inductor.aoti_load_package(FILE)` gives the same call, and C++ loads them without Python.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from foundation.settings import setting
from hw_profiles.conversions.aotinductor import compile_package, load_package
from nas.exports.base import Network, targets
from nas.exports.programs import ProgramTarget, differences
from search_spaces.network.programs import export_programs, silent


@targets.add
@dataclass(frozen=True, kw_only=True)
class Torch(ProgramTarget):
    """The programs as they are, and on request compiled; both are loaded again and checked."""

    name = "torch"

    packages: bool = setting(False, help="Compile them with AOTInductor as well.")

    def write_files(self, network: Network, folder: Path) -> Mapping[str, Any]:
        """See `Target.write_files`."""
        made = export_programs(network.model, prompt=self.prompt, capacity=self.capacity)
        paths = {"prefill": folder / "prefill.pt2", "step": folder / "step.pt2"}
        programs = {"prefill": made.prefill, "step": made.step}
        with silent():
            for name, path in paths.items():
                torch.export.save(programs[name], path)
            loaded = [torch.export.load(path).module() for path in paths.values()]
        check = partial(differences, network.model, prompt=self.prompt, capacity=self.capacity)
        found = dict(check(*loaded))
        if self.packages:
            packages = [path.with_suffix(".aoti.pt2") for path in paths.values()]
            for program, path in zip(programs.values(), packages, strict=True):
                compile_package(program, path)
            compiled = check(*map(load_package, packages))
            found |= {f"{what}, AOTInductor": each for what, each in compiled.items()}
        return {**self.about(made), "differences": found}
