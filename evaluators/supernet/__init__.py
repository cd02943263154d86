"""The supernet as an evaluator: how its shared weights are trained, kept, and read."""
