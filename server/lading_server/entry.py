"""What the program does with its arguments, decided before anything heavy is imported.

``--version`` imports nothing at all beside this package, so that it answers at once and where numpy, torch or FastAPI
are absent or broken. For the same reason this module does without ``from __future__`` and ``argparse``: only what
comes after that answer may import.

Exit codes: 0 done, or stopped because it was asked to · 1 the self-test failed, or the server could not start ·
2 the arguments are wrong · 44 the port belongs to somebody else.
"""

import sys

from lading_server import NAME, __version__

EXIT_USAGE = 2
WORKER_FLAG = "--worker"


def main(arguments: list[str] | None = None) -> int:
    """Run the program.

    Args:
        arguments: The words after the program's name; ``sys.argv``'s when none.

    Returns:
        The exit status.

    Raises:
        SystemExit: The arguments are wrong (status 2), or ask for help (status 0).
    """
    words = sys.argv[1:] if arguments is None else arguments
    worker = words[:1] == [WORKER_FLAG]
    if "--version" in words and not worker:
        print(f"{NAME} {__version__}")
        return 0
    if getattr(sys, "frozen", False):
        # A frozen program is its own Python: multiprocessing re-runs it, and is answered here before anything else.
        from multiprocessing import freeze_support  # noqa: PLC0415 (not for --version)

        freeze_support()
    if worker:
        from lading_server.workers.dispatch import dispatch  # noqa: PLC0415 (not for --version)

        return dispatch(words[1:])
    from lading_server.options import parse  # noqa: PLC0415 (not for --version)

    options = parse(words)
    if options.selftest:
        from lading_server.selftest import main as selftest  # noqa: PLC0415 (not for serving)

        return selftest(quiet=options.json, require_gpu=options.require_gpu)
    from lading_server.serve import serve  # noqa: PLC0415 (not for the others)

    return serve(options)
