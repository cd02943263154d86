"""Training a network further, outside of a study: `nas train` (see `nas.training.train`)."""
