"""Timing of calls on a shared machine: clocks, locks, samples."""
