"""Figures of real trained models: equal to transformers in what they compute, and as fast."""
