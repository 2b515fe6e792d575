"""Reads pages that have no useful text layer, from their images, in confined processes."""
