"""The steps of a study, one file each."""
