"""Release manifests to TUF metadata, and the keys that sign it. Knows nothing of what is inside an archive."""
