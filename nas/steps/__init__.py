"""The steps of a study, one file each: see `nas.steps.base`."""
