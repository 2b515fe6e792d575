"""Quality of retrieval on ViDoRe's page images. `python -m tests.benchmarks.vidore --help` says how to run it."""
