"""The script that is frozen, and what ``python -m lading_server`` runs."""

from lading_server.entry import main

if __name__ == "__main__":
    raise SystemExit(main())
