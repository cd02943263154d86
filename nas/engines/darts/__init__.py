"""Differentiable search: gradient steps on a mixture of all architectures.

`nas.engines.darts.targets` says which costs are aimed at; `nas.engines.darts.point` runs one search for one
target and keeps its result; `nas.engines.darts.engine` runs one for each.
"""

from nas.engines.darts.engine import Darts

__all__ = ["Darts"]
