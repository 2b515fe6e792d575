"""Batches for a device, across callers."""
