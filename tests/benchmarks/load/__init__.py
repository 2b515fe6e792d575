"""A load generator for embedding services, in a process of its own and lean, so that it takes little from them."""
