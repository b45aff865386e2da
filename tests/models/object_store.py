"""An S3 server on this machine: moto's, in a process of its own, with one bucket."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import attrs

BUCKET = "models"


@attrs.frozen
class ObjectStoreServer:
    """A server that runs.

    Attributes:
        address: Its URL.
        environment: What reaches it takes these variables.
    """

    address: str
    environment: dict[str, str]

    @property
    def files(self) -> Any:
        """The store as fsspec sees it."""
        import s3fs

        return s3fs.S3FileSystem(use_listings_cache=False)


@contextmanager
def object_store(log: Path) -> Iterator[ObjectStoreServer]:
    """Run a server, and have this process and its children reach it as S3."""
    import s3fs

    with closing(socket.socket()) as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    environment = {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }
    former = {name: os.environ.get(name) for name in environment}
    with log.open("wb") as output:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        server = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    os.environ.update(environment)
    s3fs.S3FileSystem.clear_instance_cache()  # those that know another server
    try:
        _wait(server, port, log)
        s3fs.S3FileSystem().mkdir(BUCKET)
        yield ObjectStoreServer(address, environment)
    finally:
        server.kill()
        server.wait()
        s3fs.S3FileSystem.clear_instance_cache()
        for name, value in former.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _wait(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    end = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if server.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"no S3 server: {log.read_text(errors='replace')[-2000:]}") from None
            time.sleep(0.05)
