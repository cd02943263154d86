"""The cases of the campaign, a module for each part of the program; each has a list `CASES`."""
