"""Rehearse a publication by the very steps of the workflows: so that publishing never runs first on a tag.

A packed folder is published to a folder and to an object store on loopback, published again, fetched back, installed,
and its timestamps are signed anew. The commands are those of ``release.yaml`` and ``refresh.yaml``, word for word; the
keys are made here, given as a secret is given, and thrown away with everything else.

    python workflows/rehearse.py PACKED

It needs moto, which is in the tests' lock. It does not talk to any host but this one.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import botocore.session

from lading.manifest.base import read_record
from lading.manifest.release import Release

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run as a program, the folder above is not looked in
from workflows.render import ROOT, SOURCES
from workflows.steps import find_step, run_step

BUCKET, PREFIX = "releases", "some/where"
DESTINATIONS = "shelf bucket"
ANY = "anybody"  # the object store here asks for credentials, and takes all
SECRETS = ("TARGETS", "SNAPSHOT", "TIMESTAMP")
FAILED = 70
USAGE = 2
_STORE = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print("http://%s:%d" % server.get_host_and_port(), flush=True)
sys.stdin.read()
server.stop()
"""
_READABLE = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{BUCKET}/*"}
    ],
}

# What is run, in order: workflow, job, step. Publishing twice must be as good as once.
STEPS = (
    ("release.yaml", "publish", "Verify the set of assets"),
    ("release.yaml", "publish", "Verify checksums"),
    ("release.yaml", "publish", "Publish"),
    ("release.yaml", "publish", "Publish"),
    ("release.yaml", "publish", "Say what was published"),
    ("release.yaml", "verify", "Verify what was published"),
    ("refresh.yaml", "refresh", "Sign the timestamps anew"),
    ("release.yaml", "verify", "Verify what was published"),
    ("release.yaml", "rehearse", "Publish to a folder"),
)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Where it is rehearsed.

    Attributes:
        folder: A project's folder, as a checkout would be, with the packed folder as ``assets``.
        values: What the workflows' expressions give.
        page: The job summary.
    """

    folder: Path
    values: Mapping[str, str]
    page: Path

    def run(self, workflow: str, job: str, name: str) -> subprocess.CompletedProcess[str]:
        """Run one step of a workflow."""
        programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        environment = {**_outside(), "PATH": programs, "GITHUB_STEP_SUMMARY": str(self.page)}
        return run_step(find_step(SOURCES / workflow, job, name), self.folder, self.values, environment)


def _outside() -> dict[str, str]:
    """This process's environment without what would sign, publish or report somewhere else."""
    ours = ("AWS_", "LADING_", "GITHUB_", "GH_", "CLOUDFLARE_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


@contextmanager
def object_store() -> Iterator[str]:
    """An object store in a process of its own, on loopback, with one bucket that everybody may read.

    Yields:
        Its address.
    """
    words = [sys.executable, "-c", _STORE]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            url = process.stdout.readline().strip()
            client: Any = botocore.session.get_session().create_client(
                "s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id=ANY, aws_secret_access_key=ANY
            )
            client.create_bucket(Bucket=BUCKET)
            client.put_bucket_policy(Bucket=BUCKET, Policy=json.dumps(_READABLE))
            yield url
        finally:
            process.stdin.close()
            process.wait(60)


def set_up(folder: Path, packed: Path, store: str) -> Stage:
    """Make a checkout of a project that publishes to a folder and to a bucket.

    Args:
        folder: An empty folder.
        packed: What is to be published.
        store: The object store's address.
    """
    record = next(iter(sorted(packed.glob("*.release.json"))))
    release = read_record(Release, record.read_bytes(), origin=record.name)
    shutil.copytree(ROOT / "manifests", folder / "manifests")
    app = folder / "manifests" / "app.yaml"
    app.write_text(re.sub(r"(?m)^name: .*$", f"name: {release.app}", app.read_text("utf-8")), encoding="utf-8")
    (folder / "manifests" / "destinations.yaml").write_text(
        "schema: lading/destinations/1\ndestinations:\n"
        "  shelf:\n    kind: folder\n    path: out/shelf\n"
        f"  bucket:\n    kind: s3\n    bucket: {BUCKET}\n    prefix: {PREFIX}\n    endpoint: {store}\n"
        f"    public: {store}/{BUCKET}/{PREFIX}\n",
        encoding="utf-8",
    )
    version = folder / "server" / "lading_server" / "_version.py"
    version.parent.mkdir(parents=True)
    version.write_text(f'__version__ = "{release.version}"\n', encoding="utf-8")
    shutil.copytree(SOURCES, folder / "workflows")
    shutil.copytree(packed, folder / "assets")
    values = {
        "vars.LADING_DESTINATIONS": DESTINATIONS,
        "vars.LADING_WAIT || '10'": "0",  # no cache is in between
        "vars.AWS_REGION": "us-east-1",
        "vars.CLOUDFLARE_ACCOUNT_ID": "",
        "github.token": "",
        "needs.plan.outputs.version": release.version,
        "secrets.AWS_ACCESS_KEY_ID": ANY,
        "secrets.AWS_SECRET_ACCESS_KEY": ANY,
    }
    return Stage(folder=folder, values=values | _keys(folder), page=folder / "page.md")


def _keys(folder: Path) -> dict[str, str]:
    """Make keys, put the private ones where a workflow has them, and leave the public ones in the checkout."""
    lading = [sys.executable, "-m", "lading", "keys", "init", "--keys", "keys"]
    subprocess.run(
        lading, cwd=folder, check=True, stdout=subprocess.DEVNULL, env={**_outside(), "LADING_KEY_PASSPHRASE": "word"}
    )
    found = {"secrets.LADING_KEY_PASSPHRASE": "word"}
    for role in SECRETS:
        found[f"secrets.LADING_KEY_{role}"] = next((folder / "keys").glob(f"{role.lower()}*.pem")).read_text("utf-8")
    for private in (folder / "keys").glob("*.pem"):
        private.unlink()
    return found


def rehearse(packed: Path, folder: Path) -> str | None:
    """Run all steps.

    Args:
        packed: What is to be published.
        folder: An empty folder.

    Returns:
        The first step that failed, or none.
    """
    with object_store() as store:
        stage = set_up(folder, packed, store)
        for workflow, job, name in STEPS:
            print(f"== {workflow}, {job}: {name}", flush=True)
            done = stage.run(workflow, job, name)
            print(done.stdout, flush=True)
            if done.returncode:
                return f"{workflow}, {job}, {name}: exit code {done.returncode}"
    return None


def main(arguments: list[str]) -> int:
    """Rehearse; 0 when every step went well, 70 when one did not."""
    if len(arguments) != 1 or not list(Path(arguments[0]).glob("*.release.json")):
        print(__doc__, file=sys.stderr)
        return USAGE
    with tempfile.TemporaryDirectory(prefix="lading-rehearsal-") as scratch:
        problem = rehearse(Path(arguments[0]).absolute(), Path(scratch))
    print(f"::error::{problem}" if problem else "Every step of a publication went well.")
    return FAILED if problem else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
