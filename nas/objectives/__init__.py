"""Objectives, one file per kind: see `nas.objectives.base`. A new file here is a new column everywhere."""
