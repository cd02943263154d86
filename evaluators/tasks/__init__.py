"""Tasks: what a candidate is trained on and judged by; one file each."""
