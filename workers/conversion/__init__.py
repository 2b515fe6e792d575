"""Converts uploaded pictures, office files and texts to PDF, in confined processes or on a Gotenberg server."""
