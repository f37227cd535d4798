# Every target sets up .venv by itself; `make` alone lists them.
# Options: ARGS="..." goes to the command; PYTHON=python3.12 picks the interpreter of .venv;
# TORCH=cpu takes PyTorch's CPU wheels (200 MB in place of 3 GB) where their index can be reached.
.DEFAULT_GOAL := help
.PHONY: help setup demo test check bench docs lock charts clean

ARGS ?=
PYTHON ?=
TORCH ?=
TORCH_CPU_INDEX ?= https://download.pytorch.org/whl/cpu

VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check
STAMP := $(VENV)/.ready
# There while an installation runs: one that was interrupted leaves it behind and is not trusted.
UNFINISHED := $(VENV)/.unfinished

FIND_PYTHON = for p in $(PYTHON) python3 python3.13 python3.12 python3.11 python3.10; do \
	"$$p" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] < (3, 14))' 2>/dev/null \
	&& { echo "$$p"; break; }; done; true

# Everything of the lock but torch and the GPU libraries that its default Linux wheel asks for.
WITHOUT_CUDA = awk '/^[a-z0-9]/ { keep = !/^(torch|torchvision|triton|nvidia-[a-z0-9-]*|cuda-[a-z0-9-]*)==/ } keep'

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' Makefile

setup: $(STAMP) ## create .venv from requirements.lock; instant when it is there

$(STAMP): requirements.lock
	@if [ -e $(UNFINISHED) ]; then echo "$(VENV) is left from an interrupted set-up: starting over"; rm -rf $(VENV); fi
	@set -e; python=$$($(FIND_PYTHON)); \
	if [ -z "$$python" ]; then \
	  echo "make: no Python 3.10 to 3.13 found; install one, or name it: make setup PYTHON=/path/to/python3" >&2; exit 1; fi; \
	$(PY) -m pip --version >/dev/null 2>&1 || rm -rf $(VENV); \
	mkdir -p $(VENV); rm -f $@; touch $(UNFINISHED); \
	if [ ! -e $(PY) ]; then \
	  "$$python" -m venv $(VENV) || { \
	    echo "make: $$python cannot create $(VENV); on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }; fi
	@set -e; echo "Installing requirements.lock into $(VENV): some minutes, once"; \
	install() { $(PIP) install "$$@" || { \
	    echo "make: pip could not install (its own message is above). Network: pip reads HTTPS_PROXY and pip.conf." >&2; \
	    echo "make: disk: 7 GB must be free, 2 GB with TORCH=cpu. Then 'make setup' again: pip keeps what it downloaded." >&2; \
	    exit 1; }; }; \
	if [ "$(TORCH)" = cpu ]; then \
	  install --no-deps --index-url $(TORCH_CPU_INDEX) $$(grep -oE '^(torch|torchvision)==[0-9.]+' requirements.lock); \
	  install --require-hashes --no-deps -r requirements-cpu.lock; \
	else install -r requirements.lock; fi
	@$(PIP) check
	@rm -f $(UNFINISHED); touch $@

demo: $(STAMP) ## train DenseNet-40 with 1cycle on the embedded digits: under 2 minutes on 2 CPU cores
	$(PY) src/train.py model=densenet40 scheduler=onecycle $(ARGS)

# One thread per worker, because more only fight for the cores; three workers per two cores, because many tests wait
# for processes of their own.
test: $(STAMP) ## run the tests
	@cores=$$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN); \
	OMP_NUM_THREADS=1 $(PY) -m pytest -n $$(( (3 * cores + 1) / 2 )) --maxprocesses 8 --dist worksteal $(ARGS)

check: $(STAMP) ## formatting, lint and types
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy

bench: $(STAMP) ## measure; prints its protocol with its numbers
	$(PY) benchmarks/bench.py $(ARGS)

docs: .venv-docs/.ready ## build the documentation site into site/; ARGS=serve shows it while you write
	@NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs $(or $(ARGS),build --quiet)

.venv-docs/.ready: docs/site/requirements.lock
	@python=$$($(FIND_PYTHON)); rm -rf .venv-docs; "$$python" -m venv .venv-docs
	@.venv-docs/bin/python -m pip --disable-pip-version-check install --quiet --require-hashes -r $<
	@touch $@

# Keeps the versions that still fit; ARGS=--upgrade moves all, ARGS="--upgrade-package torch" one.
lock: ## write requirements.lock from pyproject.toml
	@python=$$($(FIND_PYTHON)); test -x .venv-lock/bin/uv || \
	  { "$$python" -m venv .venv-lock && .venv-lock/bin/python -m pip install --quiet 'uv>=0.13,<0.14'; }
	.venv-lock/bin/uv pip compile pyproject.toml --extra dev --extra energy --extra huggingface --extra models --extra optimizers --extra ray --extra search --extra slurm --extra tables --universal --python-version 3.10 \
	  --generate-hashes --no-annotate --custom-compile-command "make lock" --output-file requirements.lock --quiet $(ARGS)
	@$(WITHOUT_CUDA) requirements.lock > requirements-cpu.lock
	.venv-lock/bin/uv pip compile docs/site/requirements.in --universal --python-version 3.10 \
	  --generate-hashes --no-annotate --custom-compile-command "make lock" --output-file docs/site/requirements.lock --quiet $(ARGS)

charts: ## fetch the chart libraries of reports again; ARGS=--accept after a change of their versions
	@python=$$($(FIND_PYTHON)); "$$python" .ci/chart_library.py $(ARGS)

clean: ## remove .venv and caches; keeps logs/ and data/
	rm -rf .venv .venv-docs .venv-lock site .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
