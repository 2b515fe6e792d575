"""The public Python client of the HTTP API. The command line uses it."""
