"""Schedulers: how long each candidate of a search is trained; one file each."""
