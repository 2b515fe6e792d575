"""Collections: their states, the generations of their vectors, and holds on them."""
