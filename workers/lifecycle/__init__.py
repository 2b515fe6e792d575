"""The life cycle of a collection: archive, restore, expiry."""
