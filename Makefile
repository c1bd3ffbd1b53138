# make demo    from labelled text to an answer of a real Triton, on this machine
# make test    the tests: WORKERS files at a time, then those that want the machine for themselves
# make lint    style, types, the law of imports
# make docs    docs/commands.md, from --help
# make sbom    build/sbom.json, a CycloneDX bill of what the package needs when it runs
# make audit   known vulnerabilities of the pinned versions; says so when no service could be asked
VENV    ?= .venv
PYTHON  ?= python3
WORKERS ?= 2
BIN     := $(VENV)/bin
PYTEST  := OMP_NUM_THREADS=1 $(BIN)/python -m pytest

.PHONY: install demo test lint docs sbom audit clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[serve,dev]'
	touch $@

demo: install
	PATH="$(abspath $(BIN)):$$PATH" docs/demo.sh $(TRAIN)

test: install
	$(PYTEST) --numprocesses=$(WORKERS) --dist=loadfile --no-loadscope-reorder -m 'not serial' $(TESTS) || [ $$? = 5 ]
	$(PYTEST) -m serial $(TESTS) || [ $$? = 5 ]  # 5: there are none among those asked for

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: install
	$(BIN)/python docs/make_commands.py > docs/commands.md

sbom: install
	mkdir -p build
	$(BIN)/python deploy/sbom.py > build/sbom.json

audit: install
	$(BIN)/python deploy/audit.py || [ $$? = 1 ]  # 3: there are some; 1: nobody could be asked

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
