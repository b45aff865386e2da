"""The words of a command line: every command's, `init` among them, with odd names, numbers and pairs."""

from __future__ import annotations

import errno
import json
import os
import random
from pathlib import Path

import click

from tests.fuzz.target import Case, Target
from tests.models.serving_folders import version_folder
from tpu2gpu.cli.main import _commands
from tpu2gpu.errors import UsageError

_WORDS = "words.json"  # without NUL, which no command line has
_LEFT_OUT = ("run", "submit", "schedule")  # which train, or talk to clusters
_NAMES = (
    "model", "file", "missing", "missing/new", "new", "", ".", "..", "file/x", "x" * 300, "\udcff", "\u00b2",
    "-",
    "triton+grpc://127.0.0.1:1/m", "http://127.0.0.1:1/x", "nowhere://x", "memory://x", "://", "*", "[", "~", "%s",
    "pipe",
    "model/manifest.json", "link", "//", "a\nb", "x/" * 2000,
)  # fmt: skip
_VALUES = (
    "", "0", "-1", "1", "1e400", "nan", "\u00b2", "x=y", "=", "=x", "x=", ":", "a:b:c", "9" * 30, "9" * 5000, "\udcff",
    ",", "x,,x", "{", "[1", "1:2:3", "0-99999999999", "crop:0x0", "crop:1x2x3", "x=float32:?x?", "nodes=0",
    "nodes=\u00b2",
    "a=b:c:d:e", "1.5", "true", "None", "*", "(", "x" * 5000, "a.b:c", "..", "\x1b[31m",
)  # fmt: skip
_OF_THE_SYSTEM = (errno.ELOOP, errno.ENAMETOOLONG, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC)


def _seeds(folder: Path) -> list[Case]:
    commands = _commands()
    names = [name for name in commands.list_commands(click.Context(commands)) if name not in _LEFT_OUT]
    return [{_WORDS: json.dumps([name]).encode()} for name in names]


def _mutate(case: Case, rng: random.Random) -> None:
    (name,) = json.loads(case[_WORDS])
    commands = _commands()
    parameters = commands.get_command(click.Context(commands), name).params  # type: ignore[union-attr]
    words = [name]
    for parameter in parameters:
        if isinstance(parameter, click.Argument):
            words += rng.choices(_NAMES, weights=[4, *[1] * (len(_NAMES) - 1)], k=rng.choice((0, 1, 1, 1, 1, 2)))
    flags = [it for it in parameters if isinstance(it, click.Option) and "--debug" not in it.opts]
    for flag in rng.sample(flags, min(len(flags), rng.choice((0, 1, 1, 2, 4)))):
        pool = (
            flag.type.choices if isinstance(flag.type, click.Choice) and rng.random() < 0.7 else (*_VALUES, *_NAMES[:9])
        )
        words += [flag.opts[0]] if flag.is_flag else [flag.opts[0], str(rng.choice(pool))]
    case[_WORDS] = json.dumps(words).encode()


def _run(folder: Path) -> None:
    place = folder / "here"
    place.mkdir()
    version_folder(place / "model", "tf_serving")
    (place / "file").write_text("x")
    (place / "link").symlink_to("file")
    os.mkfifo(place / "pipe")
    os.chdir(place)
    try:
        _commands().main(json.loads((folder / _WORDS).read_bytes()), prog_name="tpu2gpu", standalone_mode=False)
    except click.UsageError as error:
        raise UsageError(error.format_message()) from error
    except OSError as error:
        if error.errno not in _OF_THE_SYSTEM:  # which the command line tells as such
            raise
    finally:
        os.chdir("/")


TARGET = Target(name="arguments", seeds=_seeds, mutate=_mutate, run=_run, imports=("tensorflow",))
