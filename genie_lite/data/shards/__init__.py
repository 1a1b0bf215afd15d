"""Folders of shards, here and behind URLs: written, checked, read."""
