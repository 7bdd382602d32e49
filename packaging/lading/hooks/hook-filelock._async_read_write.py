"""As ``filelock._read_write``."""

excludedimports = ["sqlite3"]
