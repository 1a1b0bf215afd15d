"""Measurements on held-out episodes, each beside its baselines and with its interval, and the report."""
