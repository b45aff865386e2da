"""A checkpoint of 1 GB in float32 becomes float16, against TensorFlow's ways and the reading and writing alone."""

from __future__ import annotations

from pathlib import Path

from tests.benchmarks.measuring import Comparison, Goal, Setting, build, clear, evict, function, in_turns, ours

FLOOR, LOAD_ALL, SLICES = "cat and dd", "tf.train.Checkpoint", "RestoreV2 in slices"
_SCALE = 0.525  # 1 GB


def measure(setting: Setting) -> list[Comparison]:
    """Measure in memory, and on the disk with all flushed."""
    found = []
    for memory in (True, False):
        folder = setting.memory if memory else setting.folder
        if folder is None:
            continue
        prefix, target = folder / "float32" / "model", folder / "out"
        build("inputs:make_checkpoint", prefix, str(0.02 if setting.reduced else _SCALE))
        found.append(_compare(prefix, target, setting, in_memory=memory))
        clear(prefix.parent, target)
    return found


def _compare(prefix: Path, target: Path, setting: Setting, *, in_memory: bool) -> Comparison:
    files = sorted(prefix.parent.iterdir())
    size = sum(file.stat().st_size for file in files)
    names = " ".join(str(file) for file in files if ".data-" in file.name)
    blocks = max(1, size // 2 >> 23)
    flushed = "" if in_memory else " conv=fdatasync"
    floor = f"cat {names} > /dev/null && dd if=/dev/zero of={target} bs=8M count={blocks}{flushed}"
    ways = {
        "ours": [ours("cast", prefix, target, "--to", "float16", "--force")],
        "ours, --no-statistics": [ours("cast", prefix, target, "--to", "float16", "--force", "--no-statistics")],
        FLOOR: [["sh", "-c", floor]],
        LOAD_ALL: [function("peers:cast_load_all", prefix, target)],
    }
    goals = (Goal(FLOOR, 3.0), Goal(LOAD_ALL, 0.2))
    if not in_memory:
        goals = (Goal(FLOOR, 0.8),)
        for way in (LOAD_ALL, "ours, --no-statistics"):
            del ways[way]  # TensorFlow does not flush

    def before() -> None:
        clear(target)
        if not in_memory:
            evict(*files)

    state = "in memory" if in_memory else "cold and flushed"
    return Comparison(f"cast {size / 1e9:.2f} GB to float16", state, in_turns(ways, setting, before), goals)
