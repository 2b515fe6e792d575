"""The stores compared with each other: what a ready document lacks, and what belongs to no document."""
