"""Differences between two files as bytes, and the patch file that carries them. Knows nothing of trees or networks."""
