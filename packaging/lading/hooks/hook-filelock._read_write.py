"""Locks with several readers, which keep their state in a database; the client has one holder or none."""

excludedimports = ["sqlite3"]
