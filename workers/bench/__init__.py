"""Measurements of an installation that its users can repeat on their own data."""
