"""Embedders, and the service that offers one over HTTP. Nothing outside this package imports torch."""
