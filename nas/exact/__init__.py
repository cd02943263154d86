"""Exact choice: additive scores and costs of parts, and the best network under budgets.

`nas.exact.choice` solves tables by integer programming, and knows nothing of networks; `nas.exact.greedy` is
the baseline that it must beat; `nas.exact.sweep` finds a whole front; `nas.exact.tables` makes the tables
of a space from scores and costs; `nas.exact.additivity` asks whether sums of scores tell of whole networks.
"""
