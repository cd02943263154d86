"""The weights of a trained network in a supernet of a space around it."""

from __future__ import annotations

import torch

from evaluators.trained_parent.beginnings import begin_with, projections_of
from foundation.errors import IllegalArchitecture, SettingError, SpaceError
from search_spaces.blocks.attention import Attention
from search_spaces.language.space import Space
from search_spaces.network.decoder import Decoder
from search_spaces.network.model import Model
from search_spaces.network.sublayers import Sublayer, sublayers_of
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

    The smaller sizes of a block are its leading slices. Mixers in the place of attention begin with its
    projections (`beginnings`), other kinds of blocks at random, and all behind the parent's norms.

    Raises:
        IllegalArchitecture: the parent is not in the space.
    """
    supernet = Supernet(space, seed=seed, device=parent.embedding.device)
    trained = dict(parent.named_parameters())
    for binding in supernet.subnet(parent.spec).bindings:
        supernet.weights[binding.key][binding.index].copy_(trained[binding.name])
    for own in sublayers_of(parent.spec):
        if own.block is not None:
            _begin_others(supernet, own)
    return supernet


def _begin_others(supernet: Supernet, own: Sublayer) -> None:
    """Let what else may stand in the place of a sublayer begin with what is known of that."""
    known = {
        key.removeprefix(f"{own.key}."): weight
        for key, weight in supernet.weights.items()
        if key.startswith(f"{own.key}.")
    }
    mixer = {
        name.removeprefix("mixer."): weight for name, weight in known.items() if name.startswith("mixer.")
    }
    projections = projections_of(mixer) if isinstance(own.block, Attention) else {}
    for key, weight in supernet.weights.items():
        if not key.startswith(f"{own.path}:") or key.startswith(f"{own.key}."):
            continue
        name = key.partition(":")[2].partition(".")[2]
        if name.startswith("mixer."):
            begin_with(weight, name.removeprefix("mixer."), projections)
        elif name in known and known[name].shape == weight.shape:
            weight.copy_(known[name])
