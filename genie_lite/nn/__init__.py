"""Building blocks of the three models. Nothing here knows a framework beside torch."""
