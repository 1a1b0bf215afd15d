"""Training of the three stages, from `fit.py`; Lightning is imported only when a stage has work to do."""
