"""The visual embedder: ColQwen2."""
