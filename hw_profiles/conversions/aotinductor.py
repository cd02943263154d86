"""Programs compiled ahead of time by AOTInductor: a package with a shared library.

    compile_package(program, path)
    call = load_package(path)
    logits, *state = call(token, position, *state)

Ansel et al. 2024 (PyTorch 2), and https://docs.pytorch.org/docs/stable/torch.compiler_aot_inductor.html. A
package is for this kind of processor; making one takes a C++ compiler and seconds to minutes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from foundation.error_text import refused_as
from foundation.errors import ProfileError
from search_spaces.network.programs import silent


def compile_package(program: ExportedProgram, path: Path) -> None:
    """Compile a program into a package.

    Raises:
        ProfileError: it cannot be compiled.
    """
    inductor: Any = torch._inductor
    with refused_as(ProfileError, "AOTInductor"), silent():
        inductor.aoti_compile_and_package(program, package_path=str(path))


def load_package(path: Path) -> Callable[..., Sequence[Tensor]]:
    """The program in a package that this process wrote: it is native code.

    Raises:
        ProfileError: it cannot be loaded.
    """
    inductor: Any = torch._inductor
    with refused_as(ProfileError, "AOTInductor"), silent():
        call: Callable[..., Sequence[Tensor]] = inductor.aoti_load_package(str(path))
    return call
