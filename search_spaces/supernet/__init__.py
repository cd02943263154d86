"""The supernet: one set of weights, read as any architecture of a space.

Per place and block kind it holds every parameter at its largest shape in the space. A subnet is the ordinary
module of its size, built once on the meta device, and called with leading slices of the large parameters in
the place of its own, which have no values. No block contains elastic code, activating a subnet changes
nothing in the supernet, and what a subnet computes is bit for bit what its extracted copy computes.

    supernet = Supernet(space, seed=0)
    subnet = supernet.subnet(spec)
    logits = subnet(tokens)                  # slice
    model = subnet.extract()                 # copy: a plain model

The idea of slices of one largest network is that of slimmable networks (Yu et al. 2019, arXiv:1812.08928) and
once-for-all (Cai et al. 2020, arXiv:1908.09791).
"""

from search_spaces.supernet.inventory import Inventory, inventory
from search_spaces.supernet.subnet import Subnet
from search_spaces.supernet.supernet import Supernet
from search_spaces.supernet.weights import Binding, SharedWeights, Weights

__all__ = [
    "Binding",
    "Inventory",
    "SharedWeights",
    "Subnet",
    "Supernet",
    "Weights",
    "inventory",
]
