"""Programs of a network in the formats of other runtimes, one file each, and what runs them here."""
