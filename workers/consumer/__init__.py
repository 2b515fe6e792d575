"""Records in, offsets out: the main loop, the offset watermark, the capacity of a worker."""
