"""The plugin for a type checker, which no frozen program runs."""

excludedimports = ["mypy", "tomli", "tomllib"]
