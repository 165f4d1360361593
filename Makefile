# make demo | test | check | e2e | bench | docs | lock: each sets up all it needs. See README.md.

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

e2e: .venv/dev.stamp .venv/demo.stamp build/apt.stamp build/go.stamp
	$(BIN)/pytest e2e

bench: .venv/dev.stamp build/apt.stamp build/go.stamp
	$(RUN) -m e2e.bench

docs: .venv/dev.stamp
	$(COMMANDS) --output docs/commands.md

lock: .venv/bin/python
	$(BIN)/pip install -q --disable-pip-version-check uv
	$(BIN)/uv pip compile -q --generate-hashes --no-emit-index-url --no-header --python-version 3.11 --universal \
	  pyproject.toml --extra dev -o requirements/dev.txt
	$(BIN)/uv pip compile -q --generate-hashes --no-emit-index-url --no-header --python-version 3.11 --universal \
	  --no-deps requirements/demo.in -o requirements/demo.txt
	$(BIN)/uv pip compile -q --generate-hashes --no-emit-index-url --no-header --python-version 3.11 --universal \
	  requirements/go.in -o requirements/go.txt

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
