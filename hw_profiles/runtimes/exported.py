"""What the runtimes of exported programs share: a model is converted, once, and its files are run.

A subclass says how a program of fixed shapes is written to a file, and how that is run. Prefill and step are
those of `search_spaces.network.programs`: the decode state goes in and comes out, so a step is repeated at
the same position with the same state, whatever the runtime does with its buffers. Files are kept by all that
they depend on (`hw_profiles.conversions.cache`).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.export import ExportedProgram

from foundation.errors import ProfileError, SettingError
from foundation.extras import installed_version, missing_extra
from hw_profiles.conversions.cache import kept, weights_digest
from hw_profiles.conversions.few_bits import Few, few_bits_of
from hw_profiles.runtimes.base import Calls, Runtime
from hw_profiles.timing.timers import Call, Clock
from search_spaces.language.serialization import to_plain
from search_spaces.network import programs
from search_spaces.network.decoder import Decoder
from search_spaces.network.model import Model
from search_spaces.network.programs import Prefill, Step, exported, flat_state
from search_spaces.quantization.kernels import Factors
from search_spaces.scenario import Scenario

FORMAT = 4
"""Counted up where conversions change, so that older files are made again."""


_carries: ContextVar[bool] = ContextVar("carries", default=False)


@dataclass(frozen=True)
class Carried:
    """A call that another machine makes: a converted file, and the inputs that it takes."""

    path: Path
    inputs: tuple[Tensor, ...]

    def __call__(self) -> object:
        """It is not made here."""
        raise ProfileError(f"{self.path.name} is for another machine")


@contextmanager
def carried() -> Iterator[None]:
    """Inside, models are converted but not loaded: their calls are `Carried`."""
    token = _carries.set(True)
    try:
        yield
    finally:
        _carries.reset(token)


class ExportedRuntime(Runtime):
    """Runs files that are made of programs, on the CPU, in float32."""

    static_shapes = True
    launches = False
    fuses = True
    converts = True

    extra: ClassVar[str] = ""
    modules: ClassVar[tuple[str, ...]] = ()
    packages: ClassVar[tuple[str, ...]] = ("torch",)
    """The extra that installs the modules that are needed, and the packages whose versions count."""

    suffix: ClassVar[str]

    packs: ClassVar[frozenset[Factors]] = frozenset()
    """Bits of weights and activations that have kernels of their own where weights are packed."""

    def unsupported_scenario(self, scenario: Scenario) -> str:
        """See `Runtime.unsupported_scenario`."""
        if scenario.device != "cpu":
            return f"runs on the CPU here, and not on {scenario.device!r}"
        if scenario.dtype != "float32":
            return f"runs float32 here, and not {scenario.dtype}"
        if scenario.weights != "plain" and not self.packs:
            return "runs plain weights here, and not packed ones"
        return ""

    def not_installed(self) -> str:
        """See `Runtime.not_installed`."""
        return missing_extra(self.extra, *self.modules) if self.extra else ""

    def unsupported_network(self, spec: Decoder) -> str:
        """See `Runtime.unsupported_network`."""
        return programs.unsupported(spec)

    def kernels(self, scenario: Scenario) -> frozenset[Factors]:
        """See `Runtime.kernels`."""
        return frozenset() if scenario.weights == "plain" else self.packs

    def placed(self, model: Model, scenario: Scenario) -> Model:
        """See `Runtime.placed`; weights are packed when the program is written."""
        return super().placed(model, replace(scenario, weights="plain"))

    def clock(self, scenario: Scenario) -> Clock:
        """With one thread, the CPU time of the process, which has no other work: the thread is its own."""
        return Clock.PROCESS if scenario.threads == 1 else Clock.WALL

    def versions(self) -> dict[str, str]:
        """See `Runtime.versions`."""
        return {package: installed_version(package) for package in self.packages if package != "torch"}

    def calls(self, model: Model, scenario: Scenario, tokens: Tensor) -> Calls:
        """See `Runtime.calls`."""
        prompt, token = tokens[:, : scenario.prompt].contiguous(), tokens[:, -1].contiguous()
        context, digest = scenario.context, weights_digest(model)
        key = {"network": to_plain(model.spec), "weights": digest, "scenario": scenario.conditions()}
        make = partial(self._loaded, scenario=scenario)
        prefill = make(Prefill(model, context), (prompt,), key={**key, "program": "prefill"})

        def decode(position: int) -> Call:
            _, state = model.prefill(tokens[:, :position], capacity=context)
            inputs = (token, torch.tensor(position), *flat_state(model, state.layers))
            step = make(Step(model, context), inputs, key={**key, "program": "step"})
            return self._call(step, inputs)

        return Calls(self._call(prefill, (prompt,)), decode)

    def _call(self, loaded: Any, inputs: tuple[Tensor, ...]) -> Call:
        return Carried(loaded, inputs) if _carries.get() else self.bound(loaded, inputs)

    def _loaded(
        self, module: Prefill | Step, inputs: tuple[Tensor, ...], *, scenario: Scenario, key: dict[str, Any]
    ) -> Any:
        made = {"runtime": self.name, "format": FORMAT, "torch": torch.__version__, **self.versions()}

        def write(path: Path) -> None:
            try:
                program = exported(module.eval(), inputs)
            except SettingError as error:
                raise ProfileError(str(error)) from None
            self.write(program, inputs, path, few_bits_of(module.model, self.kernels(scenario)))

        path = kept({**key, **made}, self.suffix, write)
        return path if _carries.get() else self.load(path, scenario)

    @abstractmethod
    def write(self, program: ExportedProgram, inputs: Sequence[Tensor], path: Path, few: Few) -> None:
        """Write a program of fixed shapes into a file, with integers for the parameters in `few`.

        What is no product of a matrix stays in floating point; where `packs` is empty, `few` is.

        Raises:
            ProfileError: this runtime cannot run it.
        """

    @abstractmethod
    def load(self, path: Path, scenario: Scenario) -> Any:
        """What runs a file, with as many threads as the scenario says.

        Raises:
            ProfileError: it cannot be run.
        """

    @abstractmethod
    def bound(self, loaded: Any, inputs: tuple[Tensor, ...]) -> Call:
        """The call of what was loaded, on these inputs; it returns the outputs, logits first."""
