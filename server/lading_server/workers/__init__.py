"""Worker processes: how one is started, and what it does when it is."""
