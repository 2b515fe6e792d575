"""Compares the stores: what a ready document lacks, and what belongs to no document."""
