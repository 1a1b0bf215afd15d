"""Latent actions as data: what a model says of every frame of some videos, in the formats of those who train on it."""
