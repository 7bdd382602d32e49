"""A library that can be told to use the system's certificates, if a program has it."""

excludedimports = ["requests"]
