"""Networks of a study that are no architectures of its space: baselines, as genotypes of two genes.

One names the network, the other holds its whole configuration as JSON, so that a trial of it is stored,
digested and read like any other.
"""

from __future__ import annotations

import json

from search_spaces.language.genotype import Genotype
from search_spaces.language.serialization import from_json, to_plain
from search_spaces.network.decoder import Decoder

NAME, NETWORK = "baseline", "network"
"""Names of the genes."""


def genotype_of_given(name: str, network: Decoder) -> Genotype:
    """The genotype of a network that is called so."""
    plain = json.dumps(to_plain(network), sort_keys=True, separators=(",", ":"))
    return Genotype({NAME: name, NETWORK: plain})


def is_given(genotype: Genotype) -> bool:
    """Whether this is no genotype of a space."""
    return NETWORK in genotype.genes


def given_network(genotype: Genotype) -> Decoder:
    """The network of a genotype that `genotype_of_given` made.

    Raises:
        UnknownName: it has a part or a field that does not exist here.
        SpaceError: it holds something that no configuration contains.
    """
    network: Decoder = from_json(str(genotype.genes[NETWORK]))
    return network


def given_name(genotype: Genotype) -> str:
    """What it is called."""
    return str(genotype.genes[NAME])
