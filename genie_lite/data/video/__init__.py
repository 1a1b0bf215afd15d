"""Video files in and out: where they lie, decoding, pictures, encoding."""
