"""Which cells, in which order, at what cost. No torch."""
