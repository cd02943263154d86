"""How far a study can be trusted."""
