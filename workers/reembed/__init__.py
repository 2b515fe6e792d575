"""Another embedder for a collection that is in use: from the pages that are stored, and without a pause."""
