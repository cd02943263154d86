"""Estimates from device cards, and the cards themselves."""
