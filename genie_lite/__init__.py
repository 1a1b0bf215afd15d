"""Latent actions, steerable worlds and robot policies, learnt from unlabelled video."""

__version__ = "0.1.0"
