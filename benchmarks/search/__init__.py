"""How much of the true front searches find with few evaluations: this project's strategies beside others."""
