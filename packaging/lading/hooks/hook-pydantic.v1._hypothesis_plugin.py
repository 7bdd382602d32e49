"""The plugin for a test library, which no frozen program runs."""

excludedimports = ["hypothesis"]
