"""The contracts of ports, written once: each class is a suite for every implementation of its ports.

`tests/contract` runs a suite on the adapter and a real server, `tests/unit` on the in-memory implementation.
"""
