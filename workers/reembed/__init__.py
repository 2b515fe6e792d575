"""Embeds a collection that is in use with another embedder, from its stored pages."""
