"""The contract of a runtime: what runs a model when it is timed, and what the numbers mean then.

    check_scenario(scenario)               # SettingError where the runtime cannot run the scenario
    calls = runtime_of(scenario).prepare(model, scenario)
    calls.prefill()                        # read the prompt
    calls.decode(300)()                    # one step at position 300, repeatedly

A runtime is one file in this folder that adds an instance to `runtimes`; `engine=` of a scenario names it.
Everything that depends on how a model is run is declared here: latency tables, their interpolation and the
roofline ask the runtime, and never compare names.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from foundation.errors import ProfileError, SettingError, UnknownName
from foundation.registry import Registry
from hw_profiles.runtimes.placement import placed
from hw_profiles.timing.timers import Call, Clock, clock_of
from search_spaces.devices import check_timeable
from search_spaces.network.decoder import Decoder
from search_spaces.network.model import Model
from search_spaces.quantization.kernels import Factors, real_factors
from search_spaces.scenario import Scenario


@dataclass(frozen=True)
class Calls:
    """What can be timed of a model: reading the prompt, and one decode step at a position.

    Every call does the same work however often it is repeated, at the same position. Values of a recurrent
    state may move on between repetitions.
    """

    prefill: Call
    decode: Callable[[int], Call]


class Runtime(ABC):
    """One way of running a model; it has no state of its own.

    A subclass defines `name`, `static_shapes` and `calls`, and overrides what differs for it.
    """

    name: ClassVar[str]
    """What a scenario calls it: `engine=NAME`."""

    static_shapes: ClassVar[bool]
    """Whether a step computes on buffers of the whole context: then it takes as long at every position."""

    launches: ClassVar[bool] = True
    """Whether every operation is launched from Python, and takes at least the device's launch overhead."""

    fuses: ClassVar[bool] = False
    """Whether operations are fused into the products beside them, so that only products move bytes."""

    own_kernels: ClassVar[bool] = False
    """Whether kernels of our own run on a GPU (`search_spaces.ops.dispatch`), and not what is compiled."""

    converts: ClassVar[bool] = False
    """Whether a model is converted before it runs: that takes seconds, may be impossible, and is kept."""

    def unsupported_scenario(self, scenario: Scenario) -> str:
        """Why no model can be run in this scenario, on whichever machine; empty where models can."""
        return ""

    def unsupported_network(self, spec: Decoder) -> str:
        """Why this network cannot be run; empty where it can."""
        return ""

    def not_installed(self) -> str:
        """What is missing on this machine, and how it is installed; empty where the runtime can be used."""
        return ""

    def versions(self) -> dict[str, str]:
        """The versions of what runs the models, beside torch, by package: latencies depend on them."""
        return {}

    def clock(self, scenario: Scenario) -> Clock:
        """Which clock times the calls; a runtime with threads of its own needs `Clock.WALL`."""
        return clock_of(scenario)

    def kernels(self, scenario: Scenario) -> frozenset[Factors]:
        """Bits of weights and activations that have kernels of their own; all others are emulated.

        Where weights are plain there are none: then weights of few bits count their bytes and take the time
        of 16.
        """
        return frozenset() if scenario.weights == "plain" else real_factors(scenario.device)

    def prepare(self, model: Model, scenario: Scenario, *, seed: int = 0) -> Calls:
        """The calls of a copy of the model on the scenario's device, with random tokens.

        Raises:
            SettingError: the scenario cannot be run.
            ProfileError: the model cannot be run.
        """
        self.check(scenario)
        self.check_installed()
        if reason := self.unsupported_network(model.spec):
            raise ProfileError(f"engine {self.name}: {reason}; use engine=eager")
        model = self.placed(model, scenario)
        return self.calls(model, scenario, random_tokens(model, scenario, seed))

    def placed(self, model: Model, scenario: Scenario) -> Model:
        """The model as it is timed: on the scenario's device, in its dtype, with its kind of weights."""
        return placed(model, scenario)

    def check(self, scenario: Scenario) -> None:
        """Make sure that the scenario can be run.

        Raises:
            SettingError: it cannot.
        """
        if reason := self.unsupported_scenario(scenario):
            raise SettingError(f"scenario: engine {self.name} {reason}")

    def check_installed(self) -> None:
        """Make sure that this machine has what runs the models.

        Raises:
            SettingError: it has not; what to install is named.
        """
        if lacking := self.not_installed():
            raise SettingError(f"scenario: engine {self.name} {lacking}")

    @abstractmethod
    def calls(self, model: Model, scenario: Scenario, tokens: Tensor) -> Calls:
        """The calls of a model that is on its device, on tokens [B, context].

        Raises:
            ProfileError: the model cannot be run in this way.
        """


runtimes: Registry[Runtime] = Registry("runtime", folder="hw_profiles.runtimes")
"""All runtimes by name."""


def runtime_of(scenario: Scenario) -> Runtime:
    """The runtime that a scenario names.

    Raises:
        UnknownName: there is none of this name.
    """
    try:
        return runtimes[scenario.engine]
    except UnknownName as error:
        raise UnknownName(f"scenario: engine: {error}") from None


def check_scenario(scenario: Scenario) -> None:
    """Make sure, before any work, that the runtime of a scenario exists and can run it.

    Its device must be of a kind that can be timed, also where nothing is. Whether it is on this machine is
    another question (`hw_profiles.timing.timers.check_device`).

    Raises:
        SettingError: it does not, or cannot; or there is no such device.
    """
    check_timeable(scenario.device)
    runtime_of(scenario).check(scenario)


def random_tokens(model: Model, scenario: Scenario, seed: int) -> Tensor:
    """Tokens [B, context] to read and to decode."""
    dice = torch.Generator().manual_seed(seed)
    shape = (scenario.batch, scenario.context)
    return torch.randint(model.spec.vocab, shape, generator=dice).to(scenario.device)
