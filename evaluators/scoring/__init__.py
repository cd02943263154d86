"""Scores of architectures, and the evaluators that give them."""
