"""A publisher as a process of its own, to be killed: ``python publish_once.py`` with its words as JSON on stdin.

Says ``ready`` when it is about to begin, so that a test can tell a slow start from a slow publication.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from lading.publish.publisher import publish
from lading.publish.s3 import S3Destination, open_bucket
from lading.publish.s3_client import Settings
from lading.sign.keys import development_keys


def main() -> None:
    told = json.load(sys.stdin)
    settings = Settings(**told["settings"])
    destination = S3Destination(open_bucket(settings), settings.prefix, name="child", part=told["part"])
    print("ready", flush=True)
    publish(Path(told["packed"]), Path(told["file"]), destination, development_keys(Path(told["keys"])))


if __name__ == "__main__":
    main()
