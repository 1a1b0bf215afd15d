"""A trained judge of clips."""
