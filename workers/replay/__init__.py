"""Dead letters: find, show, replay, discard. `python -m workers.replay` is `pagemill dlq`."""
