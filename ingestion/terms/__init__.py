"""The words of pages: how a text is split into terms, and which pages of a segment have a term."""
