# Everything a newcomer or CI needs; `make demo` and `make test` work on a machine that has only Python and make.
#
# Set-up lives in .venv, and so do its stamps: remove the folder and it is made anew.
# It is redone when a pyproject.toml, constraints.txt or a native source changes, and otherwise not looked at again.

SHELL := /bin/bash

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done)
COMPILER := $(shell for c in "$(CXX)" c++ g++ clang++; do command -v "$$c" && break; done 2>/dev/null)

VENV := .venv
STAMPS := $(VENV)/stamps
PY := $(VENV)/bin/python
# Build back ends come from constraints.txt too, hence no isolated build environments.
PIP := $(PY) -m pip install -qq --disable-pip-version-check --no-build-isolation -c constraints.txt

BUILD := hatchling editables
NATIVE_BUILD := scikit-build-core nanobind cmake ninja
PLUGINS := plugins/mel plugins/gelu plugins/attention
PACKAGES := -e "core[cli]" -e "plugins/mel[asrfront,audio,librosa,plot]" \
	-e "plugins/gelu[onnxruntime,scipy]" -e "plugins/attention[onnxruntime]"
TEST_TOOLS := pytest pytest-xdist hypothesis ruff mypy onnx ml_dtypes build
PEERS := torch==2.13.0 transformers faster-whisper threadpoolctl

SOURCES := core/src $(PLUGINS:=/src) kernels/src
TESTS := core/tests $(PLUGINS:=/tests) kernels/tests tests
NATIVE := $(shell find kernels -name build -prune -o \( -name '*.[ch]pp' -o -name CMakeLists.txt -o -name pyproject.toml \) -print)
TEST_FLAGS ?= -n 2

.PHONY: demo test test-peers lint bench soak setup clean
.DEFAULT_GOAL := demo

demo: setup
	@export PATH="$(CURDIR)/$(VENV)/bin:$$PATH" COLUMNS=$${COLUMNS:-110}; set -e; \
	run() { printf '\n$$ %s\n' "$$*"; "$$@"; }; \
	run assay status; \
	run assay explain mel; \
	run assay run mel examples/speech.flac -o demo-output/mel.npy --plot demo-output/mel.png; \
	printf '\n'; printf '%s\n' \
		"The features are in demo-output/mel.npy, the picture is demo-output/mel.png." \
		"" \
		"Next, with a recording of your own (WAV, FLAC, OGG or MP3):" \
		"  source $(VENV)/bin/activate" \
		"  assay run mel RECORDING -o features.npy --plot features.png" \
		"  assay bench mel   # what batching is worth on this machine" \
		"  assay doctor      # what is here, what is missing, and how to get it"

test: $(STAMPS)/test | setup
	$(PY) -m pytest $(TEST_FLAGS) -m "not peers" $(wildcard $(TESTS))

test-peers: $(STAMPS)/peers | setup
	$(PY) -m pytest -m peers $(wildcard $(TESTS))

lint: $(STAMPS)/test | setup
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy $(wildcard $(SOURCES))

# Benchmarks see the processor as it is: no override of what the BLAS detects.
bench: $(STAMPS)/peers | setup
	@set -e; for file in $(wildcard benchmarks/[a-z]*.py); do \
		echo "== $$file"; env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE $(PY) $$file; done

soak: setup
	$(PY) tests/soak.py --minutes 20

clean:
	rm -rf $(VENV) demo-output kernels/build .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

setup: $(STAMPS)/packages $(STAMPS)/$(if $(COMPILER),native,no-compiler)

$(STAMPS)/venv:
	@test -n "$(PYTHON)" || { echo "Assay needs Python 3.11 or later: install it, or say make PYTHON=/path/to/python3"; exit 1; }
	@echo "Setting up .venv with $$($(PYTHON) --version): once, and it takes a few minutes."
	@$(PYTHON) -m venv $(VENV)
	@mkdir -p $(STAMPS)
	@touch $@

$(STAMPS)/packages: constraints.txt core/pyproject.toml $(PLUGINS:=/pyproject.toml) | $(STAMPS)/venv
	@echo "Installing Assay and its plugins..."
	@$(PIP) $(BUILD)
	@$(PIP) $(PACKAGES)
	@touch $@

$(STAMPS)/native: constraints.txt $(NATIVE) | $(STAMPS)/packages
	@echo "Compiling the native kernels with $(COMPILER)..."
	@$(PIP) $(NATIVE_BUILD)
	@CXX="$(COMPILER)" $(PIP) -e kernels
	@touch $@

$(STAMPS)/no-compiler: | $(STAMPS)/packages
	@echo "No C++ compiler: the native kernels are skipped; everything else works."
	@echo "To get them, install one (Debian, Ubuntu: apt install g++; macOS: xcode-select --install) and run make again."
	@touch $@

$(STAMPS)/test: constraints.txt | $(STAMPS)/packages
	@echo "Installing what the tests need..."
	@$(PIP) $(TEST_TOOLS)
	@touch $@

$(STAMPS)/peers: constraints.txt | $(STAMPS)/test
	@echo "Installing the peer libraries (torch, transformers, faster-whisper)..."
	@$(PIP) $(PEERS)
	@touch $@
