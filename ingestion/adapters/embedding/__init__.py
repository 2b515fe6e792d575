"""Embedding services, over HTTP."""
