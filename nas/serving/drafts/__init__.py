"""Drafts: what proposes tokens that a network then verifies in one pass; one file each."""
