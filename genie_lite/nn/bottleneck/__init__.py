"""The kinds of bottleneck, each in a file of its own; `nn/quantize.py` is their one face."""
