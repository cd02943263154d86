"""The language for spaces: open values, genotypes, constraints, JSON."""
