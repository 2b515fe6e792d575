"""`python -m workers.replay` is `pagemill dlq`."""
