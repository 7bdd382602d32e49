"""Lading: freeze, split, sign, publish, install, update, launch and verify CUDA builds of Python servers."""
