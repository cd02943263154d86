"""Latency tables: what is measured, how it is interpolated, and how it predicts whole networks."""
