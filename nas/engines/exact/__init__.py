"""Exact choice: additive scores and costs of sublayers, and the best network under budgets.

`integer_program` solves tables by integer programming and is independent of networks; `greedy` is the
baseline that it must beat; `sweep` finds a whole front; `tables` makes the tables of a space from scores and
costs; `additivity` measures whether sums of scores predict whole networks; `engine` is the search engine.
"""

from nas.engines.exact.engine import Exact

__all__ = ["Exact"]
