"""OpenStack Swift with its S3 interface, a real object store, run by the test session without a container.

It is strict where it matters for publishing: signatures, digests of bodies, the clock, the rules of uploads in parts,
objects that are created once. It does not know ``If-Match`` on writes. Four processes of about 60 MB; runs as any user;
needs a file system with extended attributes.
"""

from __future__ import annotations

import getpass
import json
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from botocore.exceptions import BotoCoreError, ClientError
from tests.doubles.environment import environment
from tests.doubles.s3_client import plain_client

HERE = Path(__file__).parent
KINDS = ("account", "container", "object")
READY = 90.0  # seconds; it takes about three on an idle machine
PORTS = range(21_000, 30_000)

_STORAGE = """\
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
devices = {home}/srv
mount_check = false
swift_dir = {home}/etc
workers = 0
user = {user}
log_name = {kind}
disable_fallocate = true
[pipeline:main]
pipeline = {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
"""
_PROXY = """\
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
swift_dir = {home}/etc
workers = 0
user = {user}
log_name = proxy
[pipeline:main]
pipeline = catch_errors gatekeeper proxy-logging listing_formats s3api tempauth copy slo dlo versioned_writes \
proxy-logging proxy-server
[app:proxy-server]
use = egg:swift#proxy
allow_account_management = true
account_autocreate = true
error_suppression_limit = 1000000
[filter:s3api]
use = egg:swift#s3api
location = us-east-1
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = testing .admin
user_test_reader = may-only-read
"""
_FILTERS = ("catch_errors", "gatekeeper", "proxy-logging", "listing_formats", "copy", "slo", "dlo", "versioned_writes")
_SWIFT = """\
[swift-hash]
swift_hash_path_suffix = tests
swift_hash_path_prefix = tests
[storage-policy:0]
name = default
default = yes
"""


@dataclass(frozen=True, kw_only=True)
class Swift:
    """A running store.

    Attributes:
        url: Its address.
        key, secret: Of its administrator.
        reader, reader_secret: Of somebody who may read what is public, and nothing else.
    """

    url: str
    key: str = "test:tester"
    secret: str = "testing"
    reader: str = "test:reader"
    reader_secret: str = "may-only-read"

    def publish(self, bucket: str) -> str:
        """Make a bucket that everybody may read, and give the address under which they do."""
        client = plain_client(self.url, self.key, self.secret)
        client.create_bucket(Bucket=bucket)
        client.put_bucket_acl(Bucket=bucket, ACL="public-read")
        return f"{self.url}/v1/AUTH_test/{bucket}"


@contextmanager
def running(home: Path) -> Iterator[Swift]:
    """Run a store while the block runs.

    Args:
        home: An empty folder, for everything that it keeps.
    """
    if sys.platform != "linux":
        pytest.skip("NOT TESTED: Swift runs on Linux only")
    _needs_attributes(home)
    python = environment("swift", HERE / "swift.txt")
    ports = _free_ports(len(KINDS) + 1)
    _configure(home, python.parent, ports)
    with _processes(home, python) as logs:
        swift = Swift(url=f"http://127.0.0.1:{ports[-1]}")
        _wait(swift, ports, logs)
        yield swift


def _needs_attributes(home: Path) -> None:
    home.mkdir(parents=True, exist_ok=True)
    try:
        os.setxattr(home, "user.lading", b"1")
    except OSError as error:
        pytest.skip(f"NOT TESTED: Swift needs extended attributes, and {home} has none: {error}")


def _free_ports(count: int) -> list[int]:
    """Ports that nobody has, and that the system gives to nobody who asks for any."""
    found: list[int] = []
    with ExitStack() as stack:
        for port in random.SystemRandom().sample(PORTS, len(PORTS)):
            one = stack.enter_context(socket.socket())
            with suppress(OSError):
                one.bind(("127.0.0.1", port))
                found.append(port)
            if len(found) == count:
                break
    return found


def _configure(home: Path, programs: Path, ports: list[int]) -> None:
    etc = home / "etc"
    etc.mkdir()
    (home / "srv" / "d1").mkdir(parents=True)
    (home / "logs").mkdir()
    (etc / "swift.conf").write_text(_SWIFT)
    user = getpass.getuser()
    for kind, port in zip(KINDS, ports, strict=False):
        (etc / f"{kind}.conf").write_text(_STORAGE.format(kind=kind, port=port, home=home, user=user))
        builder = etc / f"{kind}.builder"
        for words in (["create", "4", "1", "0"], ["add", f"r1z1-127.0.0.1:{port}/d1", "1"], ["rebalance"]):
            subprocess.run(
                [programs / "python", programs / "swift-ring-builder", builder, *words],
                check=True,
                capture_output=True,
            )
    filters = "".join(f"[filter:{name}]\nuse = egg:swift#{name.replace('-', '_')}\n" for name in _FILTERS)
    (etc / "proxy.conf").write_text(_PROXY.format(port=ports[-1], home=home, user=user) + filters)


@contextmanager
def _processes(home: Path, python: Path) -> Iterator[Path]:
    words = [sys.executable, str(HERE / "keep_running.py"), str(home / "logs")]
    with subprocess.Popen(words, stdin=subprocess.PIPE, text=True) as keeper:
        assert keeper.stdin is not None
        for kind in (*KINDS, "proxy"):
            program = str(python.parent / f"swift-{kind}-server")
            keeper.stdin.write(json.dumps([str(python), program, str(home / "etc" / f"{kind}.conf"), "-v"]) + "\n")
        keeper.stdin.flush()
        try:
            yield home / "logs"
        finally:
            keeper.stdin.close()
            keeper.wait(60)


def _wait(swift: Swift, ports: list[int], logs: Path) -> None:
    """Until all servers listen, and the first bucket can be made."""
    deadline = time.monotonic() + READY
    client = plain_client(swift.url, swift.key, swift.secret)
    while True:
        try:
            for port in ports:
                socket.create_connection(("127.0.0.1", port), 1).close()
            client.create_bucket(Bucket="ready")
        except (OSError, BotoCoreError, ClientError) as error:
            if time.monotonic() > deadline:
                said = "\n".join(path.read_text(errors="replace")[-2000:] for path in sorted(logs.glob("*.log")))
                message = f"Swift did not start: {error}\n{said}"
                raise RuntimeError(message) from error
            time.sleep(0.2)
        else:
            return
