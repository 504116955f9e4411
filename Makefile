# make demo    runs the main job and shows what came out
# make test    lint, types and all tests
# Each target does the set-up that it needs; PYTHON chooses the interpreter (3.10 to 3.13).

PYTHON ?= $(shell for p in python3.12 python3.13 python3.11 python3.10 python3 python; do \
  $$p -c 'import sys, venv; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' >/dev/null 2>&1 && echo $$p && break; done)
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
# Tests run in one process for each core, at most four: each holds networks in memory.
PARALLEL ?= --numprocesses auto --maxprocesses 4 --dist loadgroup

.PHONY: install demo test test-data test-recipes fuzz lint bench clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.10 to 3.13 is needed; say which with make PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[slicer,dev]"
	@touch $(STAMP)

demo: install
	$(BIN)/medseg demo --output demo-output --force

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	$(BIN)/python -m pytest $(PARALLEL)

# Only the tests on real models and images, in the folder that MEDSEG_TEST_DATA names (default ../shared/data).
test-data: install
	$(BIN)/python -m pytest $(PARALLEL) -m "real_data and not recipes"

test-recipes: install
	$(BIN)/python -m pytest -m recipes -v

# Damaged inputs of every kind that is read; make fuzz KIND=nifti,onnx N=500 SEED=2, or INDEX=7 to see one case again.
fuzz: install
	PYTHONPATH=Testing $(BIN)/python -m fuzz -n $(or $(N),10000) --seed $(or $(SEED),1) $(if $(KIND),--kind $(KIND)) \
	  $(if $(INDEX),--index $(INDEX))

# The table of speeds, against nnU-Net, MONAI and Keras in an environment of their own (2 GB where pip is pointed at
# PyTorch's wheels for processors, 6 GB else; about an hour on two quiet cores). make bench SMALL=1 takes minutes.
PEERS := .venv-peers
$(PEERS)/.installed: Testing/benchmarks/peers-requirements.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

bench: install $(PEERS)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[openvino]"
	$(BIN)/python Testing/benchmarks/table.py --peers $(PEERS)/bin/python --readme $(if $(SMALL),--small)

clean:
	rm -rf $(VENV) $(PEERS) demo-output test-output .pytest_cache .mypy_cache .ruff_cache
