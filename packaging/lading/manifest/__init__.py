"""Records: what the manifests say and what a release consists of. Knows nothing of any other room."""
