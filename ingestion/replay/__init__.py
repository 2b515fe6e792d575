"""Dead letters: find, show, replay, discard. The HTTP API and `pagemill dlq` use it."""
