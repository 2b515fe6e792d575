"""The vectors of pages: their blobs, and the rows that the index gets of them."""
