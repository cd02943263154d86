"""Training one network in several processes: see `evaluators.training.parallel.parallel`."""
