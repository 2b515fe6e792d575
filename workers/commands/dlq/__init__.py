"""`pagemill dlq`."""
