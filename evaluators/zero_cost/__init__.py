"""Zero-cost scores: what a network's initial weights may say about it; one file each."""
