"""A program and a toolkit in, a onedir tree and ``buildinfo.json`` out. Knows nothing of archives or networks."""
