# make demo    install into .venv, make the embedded data, train 5 folds, print the summary
# make test    install the test requirements too, then run the suite
#
# Another interpreter or environment:  make test PYTHON=python3.12 VENV=/path/to/venv
# A CPU-only torch:                    make demo TORCH_INDEX=<the index of docs/get_started.md>
PYTHON ?= python3
VENV ?= .venv
TORCH_INDEX ?=
PYTEST_ARGS ?=
# Processes that run the tests side by side.
JOBS ?= 2

BIN := $(VENV)/bin
DEMO := configs/clip/r18_bertzh_digits_5fold.py

.PHONY: help demo test slow install bench clean

help:
	@sed -n '1,2p' Makefile | cut -c3-

$(VENV)/.installed: requirements/runtime.txt setup.py
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 10) else "clipzoo needs Python 3.10 or newer; try make PYTHON=python3.12")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	test -z "$(TORCH_INDEX)" || grep -E '^torch' requirements/runtime.txt | $(BIN)/python -m pip install --index-url "$(TORCH_INDEX)" -r /dev/stdin
	$(BIN)/python -m pip install --quiet --progress-bar off -r requirements/runtime.txt
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	@touch $@

$(VENV)/.installed-tests: requirements/tests.txt $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --progress-bar off -r requirements/tests.txt
	@touch $@

install: $(VENV)/.installed

demo: $(VENV)/.installed
	test -d data/digits || $(BIN)/python tools/make_sample_data.py digits --out data/digits
	$(BIN)/python tools/train.py $(DEMO) --jobs auto

test: $(VENV)/.installed-tests
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

slow: $(VENV)/.installed-tests
	$(BIN)/python -m pytest -m slow -n $(JOBS) --dist loadfile $(PYTEST_ARGS)

bench: $(VENV)/.installed-tests
	$(BIN)/python benchmarks/class_captions.py
	$(BIN)/python benchmarks/dual_encoder.py
	$(BIN)/python benchmarks/five_folds.py --jobs 2
	$(BIN)/python benchmarks/overhead.py
	$(BIN)/python benchmarks/input_pipeline.py
	$(BIN)/python benchmarks/pairs_at_scale.py
	$(BIN)/python benchmarks/retrieval.py
	$(BIN)/python benchmarks/frozen_tower.py
	$(BIN)/python benchmarks/folds_side_by_side.py

clean:
	rm -rf work_dirs .pytest_cache build *.egg-info
