"""`pagemill collections`."""
