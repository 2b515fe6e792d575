"""The life of a collection: packed into an archive, brought back from it, expired."""
