"""A trained world, played in a browser."""
