"""How good is an architecture: the text it learns, the recipe it learns by, and the evaluators that score it.

Nothing here knows about searching or timing. See `evaluators.scoring.base` for the contract of an evaluator
and `evaluators.tasks.base` for that of a task.
"""
