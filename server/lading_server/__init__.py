"""The default server: small, real, and the program that Lading's releases carry.

Importing this package imports nothing but its version: ``--version`` must work and be quick where everything else
is absent or broken.
"""

from lading_server._version import __version__

NAME = "lading-server"

__all__ = ["NAME", "__version__"]
