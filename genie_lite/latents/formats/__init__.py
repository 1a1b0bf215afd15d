"""Extracted latent actions in the layouts of those who train on them; `registry.write` knows all of them by name."""
