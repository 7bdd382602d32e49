"""The second implementation, for interpreters that cannot load the first one."""

excludedimports = ["zstandard._cffi", "zstandard.backend_cffi"]
