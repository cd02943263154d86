"""Sublayers one at a time: aligned to a parent, and scored by replacement."""
