"""Runs a compiled pipeline under KFP's own local runner, each step in a container.

run_pipeline.py SPEC ROOT [PARAMETER=VALUE]...
"""

from __future__ import annotations

import sys

from kfp import components, local

if __name__ == "__main__":
    spec, root, *given = sys.argv[1:]
    local.init(runner=local.DockerRunner(), pipeline_root=root, raise_on_error=True)
    components.load_component_from_file(spec)(**dict(text.split("=", 1) for text in given))
