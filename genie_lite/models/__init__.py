"""The three models and the world made of them. Start with `lam.py`."""
