"""The image holds what the lock says and the project, nothing that builds software, and nobody in it is root."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.container.engine import DOCKER, docker

ROOT = Path(__file__).resolve().parents[2]
COMPILERS = ("cc", "gcc", "g++", "c++", "clang", "ld", "as", "make")
DEVELOPERS = {"hypothesis", "mypy", "pytest", "pytest-timeout", "pytest-xdist", "ruff"}
LIST = "import importlib.metadata as m; [print(d.name, d.version) for d in m.distributions()]"


@pytest.fixture(scope="module")
def settings(image: str) -> dict[str, object]:
    (inspected,) = json.loads(docker("image", "inspect", image).stdout)
    config: dict[str, object] = inspected["Config"]
    return config


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def locked(python: str) -> dict[str, str]:
    """The versions of requirements.lock for a Python."""
    environment = {"python_version": python, "python_full_version": f"{python}.0"}
    lines = [line.rstrip("\\ ") for line in (ROOT / "requirements.lock").read_text().splitlines() if "==" in line[:99]]
    found = [Requirement(line) for line in lines if not line.startswith((" ", "#"))]
    return {
        normal(one.name): str(one.specifier).removeprefix("==")
        for one in found
        if one.marker is None or one.marker.evaluate(environment)
    }


def test_every_package_is_of_the_locked_version_and_none_is_a_developers(run: Callable[..., str]) -> None:
    installed = {normal(name): version for name, version in map(str.split, run("python", "-c", LIST).splitlines())}
    python = run("python", "-c", "import sys; print('%d.%d' % sys.version_info[:2])").strip()
    assert installed.pop("tpu2gpu")
    assert installed.keys() >= {"tensorflow", "tfx", "kfp", "onnxruntime", "tensorrt-rtx-cu12-libs"}
    assert installed.items() <= locked(python).items()
    assert not installed.keys() & DEVELOPERS


def test_the_project_is_there_with_every_file(run: Callable[..., str]) -> None:
    there = set(run("find", "/opt/project", "-type", "f").split())
    files = [path for root in ("components", "pipelines") for path in (ROOT / root).rglob("*") if path.is_file()]
    wanted = {f"/opt/project/{Path(*path.relative_to(ROOT).parts[1:])}" for path in files if not is_made(path)}
    assert wanted
    assert wanted <= there


def is_made(path: Path) -> bool:
    """A file that no checkout has: bytecode, or what an installation leaves."""
    return any(part == "__pycache__" or part.endswith(".egg-info") for part in path.parts)


def test_nobody_is_root_and_nothing_can_be_changed(run: Callable[..., str], settings: dict[str, object]) -> None:
    assert settings["User"] == "1000:1000"  # a number: Kubernetes' runAsNonRoot reads no names
    assert run("id", "-u").strip() == "1000"
    writable = run("find", "/opt", "/usr", "-writable", "-not", "-type", "l", "-not", "-name", ".lock")  # uv's, empty
    assert not writable.strip()


def test_nothing_compiles(run: Callable[..., str]) -> None:
    script = "".join(f"command -v {tool} || true; " for tool in COMPILERS)
    assert run("sh", "-c", script).strip() == ""
    assert run("find", "/usr", "-name", "Python.h").strip() == ""


def test_labels_say_what_it_is(settings: dict[str, object]) -> None:
    labels = settings["Labels"]
    assert isinstance(labels, dict)
    assert {key.removeprefix("org.opencontainers.image."): value for key, value in labels.items()} == {
        "title": "tpu2gpu",
        "description": labels["org.opencontainers.image.description"],
        "licenses": "Apache-2.0",
        "version": "0.1.0",
        "revision": labels["org.opencontainers.image.revision"],
    }
    assert re.match(r"[0-9a-f]{40}", labels["org.opencontainers.image.revision"])


def test_no_address_of_a_package_index_stays_behind(
    image: str, run: Callable[..., str], settings: dict[str, object]
) -> None:
    assert "://" not in json.dumps([settings["Env"], settings["Labels"], settings["Cmd"]])
    assert "://" not in docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", image).stdout
    assert run("sh", "-c", "cat /etc/pip.conf /etc/uv/uv.toml 2>/dev/null || true") == ""


def test_the_packages_are_one_layer_and_the_project_another(image: str) -> None:
    history = docker("history", "--human=false", "--format", "{{.Size}} {{.CreatedBy}}", image).stdout.splitlines()
    sizes = {path: int(line.split()[0]) for line in history for path in ("/opt/venv", "/opt/project") if path in line}
    assert sizes["/opt/venv"] > 1e9
    assert sizes["/opt/project"] < 20e6


def test_the_commands_run_in_it(run: Callable[..., str]) -> None:
    found = run("tpu2gpu", "doctor", "--json")
    assert json.loads(found)
    assert "Usage" in run("tpu2gpu", "compile", "--help")


@pytest.mark.parametrize("target", ["cpu", "gpu", "tpu"], ids="{}_image".format)
def test_each_targets_packages_fit_together(image: str, target: str) -> None:
    """What would be installed; that it runs can be seen on its accelerator only."""
    found = resolve(target)
    python = docker("run", "--rm", image, "python", "-c", "import sys; print('%d.%d' % sys.version_info[:2])").stdout
    versions = locked(python.strip())
    beyond = {name for name, version in found.items() if versions.get(name) != version}
    if target == "gpu":
        assert {"onnxruntime-gpu", "nvidia-cudnn-cu12", "nvidia-cublas-cu12"} <= beyond
        assert not {name for name in beyond if not name.startswith(("nvidia-", "onnxruntime-gpu"))}
        assert "onnxruntime" not in found  # both would write the same folder
    else:
        assert not beyond
        assert ("tensorflow" in found) is (target == "cpu")


def resolve(target: str) -> dict[str, str]:
    """What a target installs, from its own stage's command as the Dockerfile has it."""
    text = (ROOT / "container" / "Dockerfile").read_text().replace("\\\n", " ")
    stage = text.partition(f"FROM packages AS {target}-packages")[2].partition("\nFROM ")[0]
    command = re.search(r"uv pip install ([^&\n]*)", stage)
    assert command
    secrets = [word for word in os.environ.get("DOCKER_FLAGS", "").split() if word != "--secret"]
    files = dict(re.match(r"id=(\w+),src=(.*)", secret).groups() for secret in secrets)  # type: ignore[union-attr]
    places = {"certificates": "/etc/ssl/certs/ca-certificates.crt", "uv": "/etc/uv/uv.toml"}
    mounts = [f"--volume={Path(files[name]).resolve()}:{place}:ro" for name, place in places.items() if name in files]
    builder = [
        "--target=packages",
        f"--build-arg=BASE={os.environ['BASE']}",
        *os.environ.get("DOCKER_FLAGS", "").split(),
    ]
    build = subprocess.run(
        [DOCKER, "build", "--quiet", "--file=container/Dockerfile", *builder, "."],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "DOCKER_BUILDKIT": "1"},
    )
    mounts.append(f"--volume={ROOT / 'container'}:/build/container:ro")
    line = f"uv pip install --dry-run {command[1].replace('--quiet', '')} 2>&1"
    done = docker("run", "--rm", "--user=0", *mounts, build.stdout.strip(), "sh", "-c", line)
    return {normal(name): version for name, version in re.findall(r"^ \+ (\S+)==(\S+)$", done.stdout, re.MULTILINE)}
