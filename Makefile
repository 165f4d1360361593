# make demo | test | check | e2e | image | bench | docs | lock: each sets up all it needs. See README.md.

PYTHON ?= python3
BIN    := .venv/bin
RUN    := $(BIN)/python
COMMANDS = mkdir -p build && $(BIN)/typer modelctl.cli.main utils docs --name modelctl

.PHONY: demo test check e2e bench docs lock setup clean

demo: .venv/demo.stamp build/apt-demo.stamp
	$(RUN) -m e2e.demo

test: .venv/dev.stamp build/apt.stamp
	$(BIN)/pytest -n auto --dist loadfile

check: .venv/dev.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(COMMANDS) --output build/commands.md >/dev/null && diff docs/commands.md build/commands.md

e2e: .venv/dev.stamp .venv/demo.stamp build/apt.stamp build/go.stamp build/cluster.stamp build/image/index.json
	$(BIN)/pytest e2e
	$(RUN) e2e/cluster/cluster run --nodes 2,1 -- $(RUN) -m pytest e2e/kubernetes
	$(RUN) e2e/cluster/cluster run --nodes 2 --disk n2=1000 -- $(RUN) -m pytest e2e/preload_faults -n 3 --dist loadgroup

bench: .venv/dev.stamp build/apt.stamp build/go.stamp build/cluster.stamp
	$(RUN) -m e2e.bench
	$(RUN) e2e/cluster/cluster run --nodes 1 -- $(RUN) -m e2e.bench.preload

image: build/image/index.json

wheels: build/wheels/ours.stamp

docs: .venv/dev.stamp
	$(COMMANDS) --output docs/commands.md
	$(RUN) -c 'from modelctl.core.config import render_schema; print(render_schema(), end="")' >docs/config.schema.json

lock: .venv/bin/python
	$(BIN)/pip install -q --disable-pip-version-check uv
	$(BIN)/uv pip compile -q --generate-hashes --no-emit-index-url --no-header --python-version 3.11 --universal \
	  pyproject.toml --extra dev -o requirements/dev.txt
	$(BIN)/uv pip compile -q --generate-hashes --no-emit-index-url --no-header --python-version 3.11 --universal \
	  --no-deps requirements/demo.in -o requirements/demo.txt
	$(BIN)/uv pip compile -q --generate-hashes --no-emit-index-url --no-header --python-version 3.11 --universal \
	  requirements/go.in -o requirements/go.txt
	$(BIN)/uv pip compile -q --generate-hashes --no-emit-index-url --no-header --python-version 3.11 --universal \
	  pyproject.toml --extra all -c requirements/dev.txt -o requirements/runtime.txt
	$(BIN)/uv pip compile -q --generate-hashes --no-emit-index-url --no-header --python-version 3.11 --universal \
	  requirements/image.in -o requirements/image.txt
	$(BIN)/uv pip compile -q --generate-hashes --no-emit-index-url --no-header --python-version 3.11 --universal \
	  requirements/build.in -c requirements/dev.txt -o requirements/build.txt

setup: .venv/dev.stamp .venv/demo.stamp build/apt.stamp

clean:
	rm -rf .venv build

.venv/bin/python:
	@$(PYTHON) -m venv --help >/dev/null 2>&1 && $(PYTHON) -c 'import ensurepip' 2>/dev/null \
	  || { apt-get update -qq && apt-get install -y -qq --no-install-recommends python3-venv; }
	$(PYTHON) -m venv .venv

.venv/dev.stamp: requirements/dev.txt pyproject.toml | .venv/bin/python
	$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

.venv/demo.stamp: requirements/demo.txt .venv/dev.stamp
	$(BIN)/pip install -q --disable-pip-version-check --require-hashes --no-deps -r requirements/demo.txt
	touch $@

build/apt.stamp build/apt-demo.stamp: build/%.stamp: e2e/%.txt
	e2e/install-apt $<
	mkdir -p build && touch $@

build/go.stamp: e2e/go.txt .venv/dev.stamp
	e2e/install-go-tools e2e/go.txt build/go/bin
	touch $@

build/cluster.stamp: e2e/cluster/apt.txt e2e/cluster/programs.py build/go.stamp
	$(RUN) e2e/cluster/cluster install
	touch $@

# The image. Folders are sources too: theirs is the time at which a file went. The last commit stands in its labels.
.PHONY: image wheels
PACKED = pyproject.toml README.md LICENSE .ci/steps/modelctl-step $(shell find modelctl layouts kube -name __pycache__ -prune -o -print)

build/apt-image.stamp: e2e/apt-image.txt
	e2e/install-apt $<
	mkdir -p build && touch $@

build/base.tar: .ci/image/base build/apt-image.stamp
	.ci/image/base $@

build/wheels/locked.stamp: requirements/runtime.txt requirements/image.txt | .venv/bin/python
	rm -rf build/wheels
	$(BIN)/pip wheel -q --disable-pip-version-check --require-hashes --no-deps --only-binary :all: \
	  -w build/wheels -r requirements/runtime.txt -r requirements/image.txt
	touch $@

build/wheels/ours.stamp: build/wheels/locked.stamp .venv/dev.stamp $(PACKED)
	rm -f build/wheels/modelctl-*.whl
	$(RUN) -m hatchling build --target wheel --directory build/wheels
	touch $@

build/image/index.json: .ci/image/build build/base.tar build/wheels/ours.stamp Dockerfile $(wildcard .git/logs/HEAD)
	.ci/image/build build/base.tar build/image
