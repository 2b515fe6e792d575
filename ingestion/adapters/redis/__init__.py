"""Redis, through redis-py."""
