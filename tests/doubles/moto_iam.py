"""moto as an object store with its IAM switched on: it knows what each key may do, which Swift's S3 interface does not.

Weaker than Swift in everything else: it takes any body for any digest.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import botocore.session
import httpx
from moto.server import ThreadedMotoServer


@dataclass(frozen=True, kw_only=True)
class Moto:
    """A running server.

    Attributes:
        url: Its address.
        key, secret: Of somebody who may do everything.
        reader, reader_secret: Of somebody who may list and read.
        blind, blind_secret: Of somebody who may do nothing.
    """

    url: str
    key: str
    secret: str
    reader: str
    reader_secret: str
    blind: str
    blind_secret: str


@contextmanager
def running() -> Iterator[Moto]:
    """Run it in threads of this process while the block runs."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        url = f"http://{host}:{port}"
        key, secret = _user(url, "publisher", ["s3:*"])
        reader, reader_secret = _user(url, "reader", ["s3:Get*", "s3:List*"])
        blind, blind_secret = _user(url, "blind", ["sts:*"])
        httpx.post(
            f"{url}/moto-api/reset-auth", content=b"0", headers={"Content-Type": "text/plain"}
        ).raise_for_status()
        yield Moto(
            url=url,
            key=key,
            secret=secret,
            reader=reader,
            reader_secret=reader_secret,
            blind=blind,
            blind_secret=blind_secret,
        )
    finally:
        server.stop()


def _user(url: str, name: str, actions: Sequence[str]) -> tuple[str, str]:
    iam: Any = botocore.session.get_session().create_client(
        "iam",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="before",
        aws_secret_access_key="authentication",
    )
    policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": list(actions), "Resource": "*"}]}
    iam.create_user(UserName=name)
    iam.put_user_policy(UserName=name, PolicyName="may", PolicyDocument=json.dumps(policy))
    found = iam.create_access_key(UserName=name)["AccessKey"]
    return found["AccessKeyId"], found["SecretAccessKey"]
