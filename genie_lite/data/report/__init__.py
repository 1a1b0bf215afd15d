"""What became of a corpus, on one page."""
