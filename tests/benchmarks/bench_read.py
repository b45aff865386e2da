"""All tensors of a checkpoint are read with their checksums, against reading its files."""

from __future__ import annotations

from tests.benchmarks.measuring import Comparison, Setting, build, function, in_turns


def read_bundle(prefix: str) -> None:
    """Read every tensor; a wrong checksum raises."""
    from tpu2gpu.tensorbundle.reader import Bundle

    bundle = Bundle(prefix)
    for key in bundle:
        for _ in bundle.chunks(key):
            pass


def measure(setting: Setting) -> list[Comparison]:
    """Measure with a warm page cache."""
    folder = setting.memory or setting.folder
    prefix = folder / "float32" / "model"
    build("inputs:make_checkpoint", prefix, "0.02" if setting.reduced else "0.525")
    names = " ".join(map(str, prefix.parent.iterdir()))
    ways = {
        "ours": [function("bench_read:read_bundle", prefix)],
        "cat": [["sh", "-c", f"cat {names} > /dev/null"]],
        "cat | cat": [["sh", "-c", f"cat {names} | cat > /dev/null"]],
    }
    size = sum(file.stat().st_size for file in prefix.parent.iterdir())
    state = "in memory" if setting.memory else "on disk, cache warm"
    note = "`cat > /dev/null` hands pages on unread."
    return [Comparison(f"read and check {size / 1e9:.2f} GB", state, in_turns(ways, setting), note=note)]
