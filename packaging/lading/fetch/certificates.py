"""Which certificate authorities are believed.

The machine's own by default, through its own verifier where it has one: Windows and macOS fetch roots that they need
on their own, and on Linux the system's bundle lies in a place that differs by distribution, also for a frozen program
that was built on another one. A bundle that the usual variables name replaces them.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from pathlib import Path

import truststore

from lading.errors import ConfigError

# In this order, as curl and requests know them; the first that is set counts.
_FILES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_FOLDER = "SSL_CERT_DIR"


def tls_context(environment: Mapping[str, str] = os.environ) -> ssl.SSLContext:
    """Make the context that every HTTPS connection uses.

    Args:
        environment: May name a bundle (a file, or a folder of hashed files).

    Returns:
        A context that verifies certificates and host names.

    Raises:
        ConfigError: A variable names what is no bundle.
    """
    for variable in (*_FILES, _FOLDER):
        if named := environment.get(variable):
            return _from_bundle(variable, named)
    return truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _from_bundle(variable: str, named: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies by default
    folder = Path(named).is_dir()
    try:
        context.load_verify_locations(cafile=None if folder else named, capath=named if folder else None)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"{variable} names {named}, which is no bundle of certificates ({error.strerror or error}).",
            usually="The path is wrong, or the file is not in PEM format.",
            todo=f"Correct or unset {variable}.",
        ) from error
    return context
