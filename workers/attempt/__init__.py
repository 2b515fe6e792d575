"""One document, once: claim, lease, isolation, store, outcome, retry policy."""
