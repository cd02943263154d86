"""Benchmarks of what happens to a network after the search."""
