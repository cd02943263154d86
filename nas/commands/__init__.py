"""The commands of `nas`, one file for each kind."""
