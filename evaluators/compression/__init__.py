"""Methods that make a trained network smaller: rounding, pruning and distillation of weights."""
