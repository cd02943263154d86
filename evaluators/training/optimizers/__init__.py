"""Optimizers of trainings; one file each."""
