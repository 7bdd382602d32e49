"""A printer for pydantic's own developers."""

excludedimports = ["rich"]
