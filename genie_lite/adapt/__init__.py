"""From latent actions to real ones: extraction, mappings from a few labels, policies, rivals."""
