"""The shared weights of a whole space, and its subnets; see `search_spaces.supernet`."""

from __future__ import annotations

from collections import OrderedDict

import torch

from search_spaces.language.space import Space
from search_spaces.network.decoder import Decoder
from search_spaces.supernet.allocation import allocate
from search_spaces.supernet.subnet import BoundSublayers, Subnet
from search_spaces.supernet.weights import SharedWeights, Weights

KEPT_SUBNETS = 256
"""How many subnets keep their (empty) module; the rest are rebuilt when they are asked for again."""


class Supernet(SharedWeights):
    """Shared weights for every architecture of `space`, whose root must be a `Decoder`.

    Raises:
        SpaceError: the root is no decoder, or no block of some place can be built.
    """

    def __init__(self, space: Space, *, seed: int = 0, device: str | torch.device = "cpu") -> None:
        super().__init__(space.name, torch.device(device))
        self.space = space
        self._subnets: OrderedDict[Decoder, Subnet] = OrderedDict()
        self._sublayers = BoundSublayers()
        allocate(self, space.root, seed)

    def subnet(self, spec: Decoder) -> Subnet:
        """The subnet of a closed configuration.

        Raises:
            IllegalArchitecture: the supernet holds no weights for it, or not large enough ones.
        """
        subnet = self._subnets.get(spec)
        if subnet is None:
            subnet = self._subnets[spec] = Subnet(self, spec, self._sublayers)
            if len(self._subnets) > KEPT_SUBNETS:
                self._subnets.popitem(last=False)
        self._subnets.move_to_end(spec)
        return subnet

    def accumulate(self, subnet: Subnet, leaves: Weights) -> None:
        """Add the gradients of a subnet's leaves (see `Subnet.leaves`) to the shared parameters."""
        self.add_gradients(subnet.bindings, leaves)
