"""Processes, and what only they do: rendering, embedding, storing, and running the local stack."""
