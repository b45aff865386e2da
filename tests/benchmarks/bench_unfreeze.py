"""A frozen graph of 520 MB becomes a SavedModel with a checkpoint, against the recipe that people pass on."""

from __future__ import annotations

from tests.benchmarks.bench_freeze import LAYERS, WIDTH
from tests.benchmarks.measuring import Comparison, Goal, Setting, build, clear, function, in_turns, ours

RECIPE = "import_graph_def, assign, Saver, simple_save"


def measure(setting: Setting) -> list[Comparison]:
    """Measure in memory, or on the disk with a warm page cache where memory has no room."""
    folder = setting.memory or setting.folder
    source, target = folder / "frozen", folder / "unfrozen"
    layers = 2 if setting.reduced else LAYERS
    build("inputs:make_frozen", source, str(WIDTH), str(layers))
    clear(folder / "frozen.model")
    ways = {
        "ours": [ours("unfreeze", source, target, "--force")],
        RECIPE: [function("peers:unfreeze_recipe", source, target)],
    }
    found = in_turns(ways, setting, lambda: clear(target))
    state = "in memory" if setting.memory else "on disk, cache warm"
    return [Comparison(f"unfreeze {layers * WIDTH**2 * 4 / 1e6:.0f} MB", state, found, (Goal(RECIPE, 1 / 3),))]
