"""Signed releases and verified frames from a source. Does not know where they are installed."""
