"""Answers ``--version`` before PyInstaller's own runtime hooks run: these import inspect, pkgutil and multiprocessing.

Measured on a frozen CPU server: 1.45 times the start of an empty frozen program without this hook, 0.45 times with it.
"""

import sys

if "--version" in sys.argv[1:] and sys.argv[1] != "--worker":
    from lading_server.entry import main

    sys.exit(main())
