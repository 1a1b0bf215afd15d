"""Are the latent actions of a model any good? Every check beside its baselines, and one verdict."""
