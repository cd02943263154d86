"""The commands of `nas`, by what they do.

`running` works on studies, `looking` reads them, `making` takes networks home.
"""
