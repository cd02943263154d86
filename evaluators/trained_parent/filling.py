"""The weights of a trained network in a supernet of a space around it."""

from __future__ import annotations

import torch

from foundation.errors import IllegalArchitecture, SettingError, SpaceError
from search_spaces.language.space import Space
from search_spaces.network.decoder import Decoder
from search_spaces.network.model import Model
from search_spaces.supernet import Supernet


def require_around(space: Space, parent: Decoder, named: str) -> None:
    """Make sure that a space holds a network; messages call the network `named`.

    Raises:
        SettingError: it does not.
    """
    try:
        space.genotype_of(parent)
    except (IllegalArchitecture, SpaceError) as error:
        raise SettingError(
            f"{space.name} does not hold the network of {named}: {error}; `nas space-around {named}` writes a"
            " space that does"
        ) from None


@torch.no_grad()
def filled_from(space: Space, parent: Model, *, seed: int = 0) -> Supernet:
    """A supernet of the space in which the parent's blocks have the parent's weights.

    The smaller sizes of a block are its leading slices. Other kinds of blocks begin at random.

    Raises:
        IllegalArchitecture: the parent is not in the space.
    """
    supernet = Supernet(space, seed=seed, device=parent.embedding.device)
    trained = dict(parent.named_parameters())
    for binding in supernet.subnet(parent.spec).bindings:
        supernet.weights[binding.key][binding.index].copy_(trained[binding.name])
    return supernet
