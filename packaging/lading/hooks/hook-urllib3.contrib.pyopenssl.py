"""Another TLS library, which urllib3 uses only when a program tells it to."""

excludedimports = ["OpenSSL", "cryptography"]
