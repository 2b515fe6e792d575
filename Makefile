PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: install install-all demo test test-fast chaos docs lint lock sbom milvus-server clean

# What `pagemill up` needs with the `local` embedder, by hash.
install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt deploy/requirements/demo.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Pagemill needs Python 3.11 or later; set PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --no-compile --no-deps --require-hashes -r deploy/requirements/demo.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -e .
	touch $@

# All extras, and what the tests need: all but torch by hash; torch by version.
install-all: $(VENV)/.installed-all

$(VENV)/.installed-all: $(VENV)/.installed deploy/requirements/dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r deploy/requirements/dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[local,ocr,visual,mcp,plot,tracing,stack,demo,dev]'
	touch $@

demo: install
	$(BIN)/python -m tests.demo

# Everything, with its branch coverage, which may not fall below `fail_under` in pyproject.toml. Three sets of servers:
# many tests wait. In the order of the folders, so that the many short files of tests/unit come last.
test: lint
	$(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder --cov --cov-report=term:skip-covered

# For every change: no server, no network, under a minute.
test-fast: lint
	$(BIN)/pytest tests/unit -n 2 --dist loadfile

# Long: kills, outages, poison and the rest, hundreds of times and for minutes each. The tests hold short versions.
chaos: install-all
	$(BIN)/python -m tests.chaos.run

lint: install-all
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The tables of settings, error codes and metrics, from the code.
docs: install
	$(BIN)/python -m tests.support.reference_pages

# A real Milvus server, for the contract tests of the vector store; without it they run on milvus-lite alone.
milvus-server: .milvus-venv/.installed

.milvus-venv/.installed:
	$(PYTHON) -m venv .milvus-venv
	.milvus-venv/bin/pip install --quiet --disable-pip-version-check milvus==2.3.5 'setuptools<70'
	touch $@

# Pins of a fresh environment, without the build's suffix, so that torch stays installable from every index; then the
# locks with hashes that the images are installed from.
lock:
	$(PYTHON) -m venv .lock-venv
	.lock-venv/bin/pip install --quiet --disable-pip-version-check -e '.[local,ocr,visual,mcp,plot,tracing,stack,demo,dev]'
	.lock-venv/bin/pip freeze --exclude-editable | sed 's/+cpu//' > constraints.txt
	.lock-venv/bin/pip install --quiet --disable-pip-version-check uv
	deploy/requirements/lock .lock-venv/bin/uv
	rm -rf .lock-venv

# The packages of the images, as CycloneDX, from the locks: dist/sbom-*.json.
sbom:
	$(PYTHON) -m venv .sbom-venv
	.sbom-venv/bin/pip install --quiet --disable-pip-version-check cyclonedx-bom
	mkdir -p dist
	for lock in slim cpu cuda torch-cuda; do \
	    .sbom-venv/bin/cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible --of JSON \
	        -o dist/sbom-$$lock.json deploy/requirements/$$lock.txt || exit 1; \
	done
	rm -rf .sbom-venv

clean:
	rm -rf $(VENV) .milvus-venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage
