"""A dense model of 520 MB is frozen, against TensorFlow's two freezers and a copy of its weights."""

from __future__ import annotations

from tests.benchmarks.measuring import Comparison, Goal, Setting, build, clear, function, in_turns, ours

WIDTH, LAYERS = 2048, 31  # of 16 MiB each
V2, SESSION, COPY = "convert_variables_to_constants_v2", "TensorFlow 1's freeze_graph", "cat > file"


def measure(setting: Setting) -> list[Comparison]:
    """Measure in memory, or on the disk with a warm page cache where memory has no room."""
    folder = setting.memory or setting.folder
    source, target = folder / "model", folder / "frozen"
    layers = 2 if setting.reduced else LAYERS
    build("inputs:make_dense", source, str(WIDTH), str(layers))
    weights = source / "variables" / "variables.data-00000-of-00001"
    ways = {
        "ours": [ours("freeze", source, target, "--format", "graph_def", "--force")],
        V2: [function("peers:freeze_v2", source, target)],
        SESSION: [function("peers:freeze_session", source, target)],
        COPY: [["sh", "-c", f"mkdir -p {target} && cat {weights} > {target}/copy"]],
    }
    found = in_turns(ways, setting, lambda: clear(target))
    work = f"freeze {layers * WIDTH**2 * 4 / 1e6:.0f} MB"
    state = "in memory" if setting.memory else "on disk, cache warm"
    note = "Ours writes a manifest with digests as well."
    return [Comparison(work, state, found, (Goal(V2, 1 / 15), Goal(SESSION, 1 / 3)), note)]
