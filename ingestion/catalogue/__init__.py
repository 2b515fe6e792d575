"""Collections: their states, the generations of their vectors, and who holds them."""
