"""Verified frames to installed versions: staging, the current pointer, roll back, locks. Opens no connection itself."""
