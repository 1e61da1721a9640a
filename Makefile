# Each target alone, on a fresh clone, makes the environment, installs what it needs and does its job.
PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready

.PHONY: demo test lint clean

demo: $(READY)
	$(VENV)/bin/fovea demo --out demo

test: $(READY)
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest

lint: $(READY)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

# torch comes first and pinned: the constraint keeps other packages from pulling a CUDA build.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --constraint constraints.txt torch --editable '.[dev]'
	touch $(READY)

clean:
	rm -rf $(VENV) demo .pytest_cache .ruff_cache .hypothesis
