"""Talks to the Docker engine."""

from __future__ import annotations

import os
import subprocess

DOCKER = os.environ.get("DOCKER", "docker")


def docker(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([DOCKER, *arguments], check=False, capture_output=True, text=True)
    assert not check or done.returncode == 0, f"docker {' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
    return done
