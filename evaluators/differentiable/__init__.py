"""Differentiable search over shared weights: see `evaluators.differentiable.search`."""
