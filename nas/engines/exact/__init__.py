"""Exact choice: additive scores and costs of parts, and the best network under budgets.

`nas.engines.exact.integer_program` solves tables by integer programming, without a notion of networks;
`nas.engines.exact.greedy` is the baseline that it must beat; `nas.engines.exact.sweep` finds a whole front;
`nas.engines.exact.contents` lists what may stand where;
`nas.engines.exact.tables` makes the tables of a space from scores and costs; `nas.engines.exact.additivity`
asks whether sums of scores predict whole networks; `nas.engines.exact.claims` compares them with outcomes.
"""

from nas.engines.exact.engine import Exact

__all__ = ["Exact"]
