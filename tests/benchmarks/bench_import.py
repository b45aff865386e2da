"""A TPU training checkpoint as large as ResNet-50's becomes a SavedModel, against TensorFlow's own way."""

from __future__ import annotations

from tests.benchmarks.measuring import Comparison, Goal, Setting, build, clear, function, in_turns, ours

THEIRS = "import_meta_graph, restore, simple_save"


def measure(setting: Setting) -> list[Comparison]:
    """Measure on the disk with a warm page cache."""
    target = setting.folder / "imported"
    build("inputs:make_resnet", setting.folder, "4" if setting.reduced else "1")
    prefix = setting.folder / "model.ckpt-1"
    ways = {
        "ours": [ours("import", prefix, target, "--force")],
        THEIRS: [function("peers:import_meta_graph", prefix, target)],
    }
    found = in_turns(ways, setting, lambda: clear(target))
    size = sum(file.stat().st_size for file in setting.folder.glob("model.ckpt-1.*"))
    note = "TensorFlow's result is still a training graph: it does less."
    return [Comparison(f"import {size / 1e6:.0f} MB", "on disk, cache warm", found, (Goal(THEIRS, 1 / 8),), note)]
