"""One file per schema, each from the one before it."""
