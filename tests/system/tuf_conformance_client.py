"""The client as the TUF conformance suite wants it (its CLIENT-CLI.md): a program around :mod:`lading.fetch.trust`.

python -m pytest CHECKOUT/tuf_conformance --entrypoint "PYTHON tests/system/tuf_conformance_client.py"
"""

from __future__ import annotations

import argparse
import shutil
import sys
from contextlib import closing
from pathlib import Path
from urllib.parse import quote, unquote

from typing_extensions import override

from lading.errors import LadingError
from lading.fetch.http import HttpSource
from lading.fetch.trust import Trust


class ForeignSource(HttpSource):
    """The suite's names hold what no repository of ours does: they come quoted already."""

    @override
    def _url(self, path: str) -> str:
        return self._pattern.replace("{path}", path if unquote(path) != path else quote(path))


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--metadata-dir", type=Path, required=True)
    parser.add_argument("--metadata-url", default="")
    parser.add_argument("--target-name", action="append", default=[])
    parser.add_argument("--target-dir", type=Path)
    parser.add_argument("--target-base-url")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("init").add_argument("root", type=Path)
    commands.add_parser("refresh")
    commands.add_parser("download")
    asked = parser.parse_args()
    anchor = asked.metadata_dir.with_name("anchor.json")
    if asked.command == "init":
        shutil.copyfile(asked.root, anchor)
        shutil.copyfile(asked.root, asked.metadata_dir / "root.json")
        return 0
    base = asked.metadata_url.rstrip("/").removesuffix("/metadata")
    try:
        with closing(ForeignSource(base)) as source:
            trust = Trust(source, anchor.read_bytes(), asked.metadata_dir)
            for name in asked.target_name:
                data = trust.target(name)
                file = asked.target_dir / quote(name, "")
                if not file.exists() or file.read_bytes() != data:
                    file.write_bytes(data)
    except LadingError as error:
        print(error.kind, error, sep="\n", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
