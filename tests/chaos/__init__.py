"""Faults on purpose: real workers on real servers, killed, frozen and cut off, and what the stores hold afterwards."""
