"""The embedder for machines without a GPU: MiniLM over a page's text layer."""
