"""The command line: arguments in, calls into the rooms, results and exit codes out; no decisions of its own."""
