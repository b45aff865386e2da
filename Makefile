# One environment, made once and kept: .venv from requirements.lock, with this project in it, editable.
#   make test PYTHON=python3.13    another interpreter (the environment is made anew)
#   make test VENV=.venv-other     another folder
VENV ?= .venv
PYTHON ?=
LOCK ?= requirements.lock

.DEFAULT_GOAL := help
.PHONY: help env demo test test-all lint lock bench clean
unexport PIP_FIND_LINKS UV_FIND_LINKS

help:  ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s%s\n", $$1, $$2}' $(MAKEFILE_LIST)

env:  ## make the environment (every other target does so if need be)
	@.ci/environment $(VENV) $(PYTHON)

demo: env  ## train on TPU or CPU, convert, evaluate, promote: the whole pipeline on real data
	$(VENV)/bin/tpu2gpu run

test: env  ## the tests, without the slow ones and those that need a GPU
	$(VENV)/bin/python -m pytest

test-all: env  ## every test
	$(VENV)/bin/python -m pytest -m ""

lint: env  ## ruff and mypy
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy

lock:  ## renew requirements.lock from pyproject.toml, keeping the pins that fit (all anew: rm requirements.lock first)
	@$$(.ci/environment --uv $(PYTHON)) pip compile --quiet --universal --generate-hashes --no-header \
		--python-version 3.10 --extra dev --output-file $(LOCK) pyproject.toml >/dev/null

bench: env  ## the benchmarks
	$(VENV)/bin/python -m tests.benchmarks

clean:  ## remove what the targets made, but for .venv and .tools
	rm -rf build demo *.egg-info components/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
