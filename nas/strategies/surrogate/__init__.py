"""A model of objectives on genotypes, and how candidates are chosen by it; one file for each idea."""
