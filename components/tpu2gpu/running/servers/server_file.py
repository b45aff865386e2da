"""Server files: how to start a server for the measurement, and stop it after."""

from __future__ import annotations

import os
import re
import shlex
import socket
from contextlib import ExitStack
from pathlib import Path

import attrs

from tpu2gpu.errors import SourceError, UsageError, foreign_errors
from tpu2gpu.options import from_mapping, option
from tpu2gpu.plain_json import parse_yaml
from tpu2gpu.running.servers.addresses import address_forms, is_address, parse_address
from tpu2gpu.storage.whole_files import read_plain_text

SUFFIXES = (".yaml", ".yml")
_PLACEHOLDER = re.compile(r"\{(model|(?:\w+_)?port)\}")


@attrs.frozen(kw_only=True)
class ServerFile:
    """The start of a server, and the address of its model then.

    `{port}`, `{grpc_port}` and other names ending in `port` stand for free ports, `{model}` for the model's path.
    """

    address: str = option("", f"where the model is: {address_forms()}")
    command: tuple[str, ...] = option((), "what starts the server and ends when it is told to")
    stop: tuple[str, ...] = option((), "what stops it where the command is but its client, as of a container")
    model: str | None = option(None, "the model that it serves, from the file's folder: what a verdict is bound to")
    start_s: float = option(120.0, "how long it may take until it answers", minimum=0)

    def filled_in(self, folder: Path) -> ServerFile:
        """Return the same with free ports and the model's path.

        Args:
            folder: The file's, from which the model's path goes.
        """
        named = {name for text in (self.address, *self.command, *self.stop) for name in _PLACEHOLDER.findall(text)}
        values = {name: str(port) for name, port in _free_ports(named - {"model"}).items()}
        values["model"] = str((folder / (self.model or ".")).resolve())

        def fill(text: str) -> str:
            return _PLACEHOLDER.sub(lambda found: values[found[1]], text)

        command, stop = (tuple(map(fill, words)) for words in (self.command, self.stop))
        return attrs.evolve(self, address=fill(self.address), command=command, stop=stop)


def is_server_file(path: str | os.PathLike[str]) -> bool:
    """Tell whether it is a file that says how to start a server."""
    return Path(path).suffix in SUFFIXES and Path(path).is_file()


def read_server_file(path: str | os.PathLike[str]) -> ServerFile:
    """Read a server file.

    Raises:
        SourceError: It is no YAML mapping, or the model that it names is not there.
        UsageError: A key is unknown or missing, or the address has another form.
    """
    try:
        values = parse_yaml(read_plain_text(Path(path)))
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise SourceError(f"{path}: no YAML ({' '.join(str(error).split())})") from error
    if not isinstance(values, dict):
        raise SourceError(f"{path}: not a server file", hint="it needs the keys address and command")
    with foreign_errors(UsageError, f"{path}: command and stop must be words as a shell splits them"):
        values |= {key: shlex.split(values[key]) for key in ("command", "stop") if isinstance(values.get(key), str)}
    found = from_mapping(ServerFile, values, str(path))
    if missing := [key for key in ("address", "command") if not getattr(found, key)]:
        raise UsageError(f"{path}: without {' and '.join(missing)}", hint="a server file needs address and command")
    parse_address(_PLACEHOLDER.sub("1", found.address))
    with foreign_errors(SourceError, f"{path}: model {found.model}", catch=OSError):  # no name of a file
        is_there = found.model is None or (Path(path).parent / found.model).exists()
    if not is_there:
        raise SourceError(f"{path}: model {found.model}: no such file or folder")
    return found


def model_files(path: str | os.PathLike[str]) -> Path | None:
    """Return the files of a model: of a server file those that it names; None where the model is behind an address."""
    if is_address(path):
        return None
    if not is_server_file(path):
        return Path(path)
    model = read_server_file(path).model
    return None if model is None else Path(path).parent / model


def _free_ports(names: set[str]) -> dict[str, int]:
    """Find a free port for each name, all different; the server takes them a moment later."""
    with ExitStack() as held:
        ports = {}
        for name in sorted(names):
            one = held.enter_context(socket.socket())
            one.bind(("127.0.0.1", 0))
            ports[name] = one.getsockname()[1]
        return ports
