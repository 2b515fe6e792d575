"""The visual embedder: late-interaction models over images of pages."""
