"""Op by op, from Python, with the shapes of the moment."""

from __future__ import annotations

from torch import Tensor

from hw_profiles.runtimes.base import Calls, Runtime, runtimes
from hw_profiles.timing.timers import Call
from search_spaces.network.model import Model
from search_spaces.scenario import Scenario


class Eager(Runtime):
    """PyTorch as it is; runs every model on every device."""

    name = "eager"
    static_shapes = False
    own_kernels = True

    def calls(self, model: Model, scenario: Scenario, tokens: Tensor) -> Calls:
        """See `Runtime.calls`."""
        prompt, token = tokens[:, : scenario.prompt], tokens[:, -1].contiguous()

        def decode(position: int) -> Call:
            _, state = model.prefill(tokens[:, :position], capacity=scenario.context)
            return lambda: model.step(token, state)  # the same state is given to every step

        return Calls(lambda: model.prefill(prompt, capacity=scenario.context), decode)


runtimes.add(Eager())
