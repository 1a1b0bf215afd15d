"""What a user names as sources, and which videos that is."""
