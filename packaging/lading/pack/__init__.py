"""A frozen tree in, archives, indexes, checksums and a release manifest out. Knows nothing of networks or keys."""
