"""Real games behind one protocol: play them, record them, score policies in them. Start with `protocol.py`."""
