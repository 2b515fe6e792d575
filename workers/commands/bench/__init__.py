"""`pagemill bench`."""
