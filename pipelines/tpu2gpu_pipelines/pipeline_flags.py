"""What every command about a pipeline is given: which one, and its settings."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from tpu2gpu_pipelines.local import DEFAULT_PIPELINE
from tpu2gpu_pipelines.named_pipelines import NAMED_PIPELINES, path_of, settings_of
from tpu2gpu_pipelines.settings import Check, Settings, load_settings, make_settings


def pipeline_flags() -> list[click.Parameter]:
    """Make the flags that say which pipeline, and what it is told."""
    return [
        click.Option(["--settings"], metavar="FILE", help="settings in YAML  [default: the pipeline's own]"),
        click.Option(
            ["--pipeline"],
            metavar="NAME|MODULE:FUNCTION",
            default=DEFAULT_PIPELINE,
            callback=lambda context, parameter, value: path_of(value),
            help=f"{', '.join(NAMED_PIPELINES)}, or what makes the TFX pipeline of the settings  [default: digits]",
        ),
    ]


def given_settings(given: dict[str, Any], check: Check | None = None) -> Settings:
    """Read the settings that a command was given; modules of the current folder can be found from now on.

    Args:
        given: What the command was given.
        check: Looks for mistakes beyond the form of the settings; all are told at once.

    Raises:
        SourceError: There is no such file.
        UsageError: It holds what is not allowed.
    """
    default = settings_of(given["pipeline"])
    sys.path.insert(0, str(Path.cwd()))  # a command's search path lacks it, and a pipeline of one's own may be there
    if given["settings"]:
        return load_settings(given["settings"], check, default)
    return make_settings({}, "without --settings", check, default)
