"""Profiles that another machine runs without this project: converted programs, a script, their results."""
