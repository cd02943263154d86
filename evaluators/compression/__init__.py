"""Methods that change a trained network: rounding, pruning, distillation, low-rank adaptation."""
