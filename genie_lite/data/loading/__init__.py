"""Shards to batches: an endless, exactly resumable stream."""
