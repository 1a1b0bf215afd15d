"""Bytes to clips: the only folder that knows containers, codecs and shards."""
