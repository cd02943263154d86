"""A study: its settings, its record, its trials, and what is read from it."""
