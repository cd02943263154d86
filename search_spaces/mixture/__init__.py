"""The third reading of one set of weights: a mixture of all architectures of a space, by shares of options.

    mixture = Mixture(supernet)
    logits = mixture.logits()                              # one number per option of every gene, all zero
    shares = mixture.shares(logits)                        # per gene a softmax
    predictions = mixture(tokens, shares)                  # [B, T, V]; gradients reach shares and weights

See `search_spaces.mixture.mixture` for what is mixed how, and `search_spaces.mixture.conditions` for the
probabilities of the parts of a space.
"""

from search_spaces.mixture.conditions import Chances
from search_spaces.mixture.mixture import Mixture

__all__ = ["Chances", "Mixture"]
