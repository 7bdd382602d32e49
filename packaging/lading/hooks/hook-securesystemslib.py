"""Keys in hardware and clouds, with which only publishers sign; and the 15 MB that verify other keys than ed25519.

Ed25519 is verified without them. A program whose repository has other keys imports ``lading.client.signatures``.
"""

excludedimports = [
    "PyKCS11",
    "asn1crypto",
    "azure",
    "boto3",
    "botocore",
    "cryptography",
    "google",
    "hvac",
    "sigstore",
]
