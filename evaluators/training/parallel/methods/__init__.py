"""Ways to share a training among processes, one file each; `base` is their contract."""
