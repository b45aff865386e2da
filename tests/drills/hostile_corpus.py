"""Give every command models that hide every op with an effect in every place: nothing may run, stay or escape.

    python -m tests.drills.hostile_corpus [ROUNDS] [OP...]

Each op goes to `import` in each place, and to each other command in as many places as there are rounds, in turns.
"""

from __future__ import annotations

import io
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.models.canary import Canary
from tests.models.hostile_places import PLACES, hostile_model
from tests.models.ops_by_definition import registered_ops
from tpu2gpu.graphs.op_classes import class_of

_FEW = ("--requests", "3", "--max-requests", "3", "--block-requests", "3", "--warm-up-requests", "1")


COMMANDS: dict[str, Callable[[Path, Path], list[str]]] = {
    "import": lambda source, target: [str(source), str(target)],
    "inspect": lambda source, target: [str(source)],
    "cast": lambda source, target: [str(source), str(target), "--to", "float16"],
    "freeze": lambda source, target: [str(source), str(target)],
    "convert": lambda source, target: [str(source), str(target), "--backend", "onnx"],
    "evaluate": lambda source, target: [str(source), str(source), "--out", str(target), "--synthetic", "4", *_FEW],
    "optimize": lambda source, target: [str(source), str(target), "--synthetic", "4", "--no-cache"],
    "load": lambda source, target: [],
}
"""By command: its words for a source and a target; `load` is Python's `tpu2gpu.load`."""

_ENDINGS = {0: "taken", 1: "refused", 2: "usage", 3: "bad input", 4: "something is not there"}


def hostile_ops() -> list[str]:
    """Name the ops that do more than compute, by what this TensorFlow registers."""
    return sorted(op for op in registered_ops() if class_of(op) not in ("pure", "unknown"))


def text_for(op: str, canary: Canary) -> bytes:
    """Return the text that would make an op touch the canary."""
    if op == "PrintV2":
        return f"file://{canary.file}".encode()
    if op.startswith("Debug"):
        return f"grpc://{canary.address}".encode()
    if class_of(op) == "network":
        return canary.address.encode()
    return str(canary.file).encode()


def give(command: str, op: str, place: str, home: Path, canary: Canary) -> str:
    """Give a model to a command; return how it ended, in capitals where that is a fault."""
    source, target = home / "model", home / "target"
    for folder in home.iterdir():
        shutil.rmtree(folder) if folder.is_dir() else folder.unlink()
    hostile_model(source, op, place, text_for(op, canary))
    canary.touched()
    with _captured() as said:
        code = _load(source) if command == "load" else _run(command, source, target)
    faults = canary.touched()
    if code not in _ENDINGS or "Traceback" in said.getvalue():
        faults.append(f"escaped with {code}")
    if b"hidden" in b"".join(path.read_bytes() for path in target.rglob("*.pb")):
        faults.append("stayed in what is written")
    told = op in said.getvalue()
    if command == "load" and not told:
        faults.append("loaded")
    if faults:
        return f"FAULT: {', '.join(faults)}: {said.getvalue()[-400:]}"
    return f"{_ENDINGS[code]}, {'told' if told else 'not told'}"


def _run(command: str, source: Path, target: Path) -> int:
    from tpu2gpu.cli.main import main

    return main([command, *COMMANDS[command](source, target)])


def _load(source: Path) -> int:
    import tpu2gpu
    from tpu2gpu.errors import Tpu2GpuError

    try:
        tpu2gpu.load(source)
    except Tpu2GpuError as error:
        print(error)
        return error.exit_code
    return 0


@contextmanager
def _captured() -> Iterator[io.StringIO]:
    """Capture what this process and its children say."""
    said = io.StringIO()
    with tempfile.TemporaryFile() as log:
        saved = os.dup(1), os.dup(2)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        for descriptor in (1, 2):
            os.dup2(log.fileno(), descriptor)
        try:
            yield said
        finally:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            for descriptor in (1, 2):
                os.dup2(saved[descriptor - 1], descriptor)
                os.close(saved[descriptor - 1])
            log.seek(0)
            said.write(log.read().decode(errors="replace"))


def runs_of(number: int, op: str, rounds: int) -> Iterator[tuple[str, str, str]]:
    """Yield commands, ops and places; which places, the op's number decides."""
    places = list(PLACES)
    yield from (("import", op, place) for place in places)
    others = [command for command in COMMANDS if command != "import"]
    for index, command in enumerate(others):
        yield from ((command, op, places[(number + index + turn) % len(places)]) for turn in range(rounds))


def main(rounds: str = "1", *ops: str) -> int:
    """Give the whole corpus; print a line for each op, and all faults."""
    faults = 0
    everything: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="corpus-") as made:
        home, watched = Path(made, "home"), Path(made, "watched")
        home.mkdir()
        watched.mkdir()
        canary = Canary(watched)
        for number, op in enumerate(ops or hostile_ops()):
            seen: Counter[str] = Counter()
            for command, _, place in runs_of(number, op, int(rounds)):
                ending = give(command, op, place, home, canary)
                if ending.startswith("FAULT"):
                    faults += 1
                    print(f"{command} {op} in {place}: {ending}", flush=True)
                    ending = "FAULT"
                elif ending.endswith("not told"):
                    print(f"  {command} {op} in {place}: {ending}", flush=True)
                seen[f"{command} {ending}"] += 1
                everything[f"{command} {ending}"] += 1
            print(f"{op} ({class_of(op)}): {dict(sorted(seen.items()))}", flush=True)
        canary.close()
    print(f"{everything.total()} runs, {faults} faults: {dict(sorted(everything.items()))}")
    return min(faults, 1)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
