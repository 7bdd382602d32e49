"""The version of the server and of the toolchain that ships with it: the only place where it is written."""

__version__ = "0.1.0"
