"""API keys: making them, and finding the caller of a request by its key."""
