"""Scripts that run inside the build environment. They import nothing of Lading's, which is not installed there."""
