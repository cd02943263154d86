"""Latency tables of studies: measured, given, imported."""
