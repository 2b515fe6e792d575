"""Backups of collections in another bucket: made while a collection is in use, restored where it is not known."""
