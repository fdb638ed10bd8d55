# The book and its tests. `make help` lists the targets; each installs what it needs into .venv first.

PYTHON ?= python3
WEIGHTS := avff_lib/faces/centerface.onnx
UV_VERSION := 0.13.9
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
NOTEBOOKS ?= $(wildcard notebooks/*.ipynb)
UV_PIP = VIRTUAL_ENV="$(CURDIR)/$(VENV)" $(BIN)/uv --quiet pip
SYNC = $(UV_PIP) sync --compile-bytecode requirements.txt
BOOK := $(BIN)/jupyter-book build . --quiet

export HF_HUB_OFFLINE = 1
export OMP_NUM_THREADS = 1

.DEFAULT_GOAL := help
.PHONY: help install book pdf test lint unit nbval pages notebooks bench lock canary lab serve clean

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

# The stamp holds the folder that .venv was made for. Where that is not this folder (moved or copied), or
# where its Python, its packages or the weights from them are gone, the stamp counts as missing.
ifneq ($(shell $(BIN)/python -P -c 'import avff_lib; open("$(WEIGHTS)"); print(open("$(STAMP)").read())' 2>/dev/null),$(CURDIR))
.PHONY: $(STAMP)
endif

install: $(STAMP)  ## Install everything that requirements.txt pins into .venv

$(STAMP): requirements.txt pyproject.toml setup.py
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
	    { echo "Python 3.11, 3.12 or 3.13 is needed; name one, as in: make book PYTHON=python3.12"; exit 1; }
	@echo "Installing into $(VENV) (6 GB the first time) ..."
	@grep -qsF "$(CURDIR)/$(VENV)" $(BIN)/activate && $(BIN)/python -m pip --version >/dev/null 2>&1 || \
	    { rm -rf $(VENV) && $(PYTHON) -m venv $(VENV); }
	@$(BIN)/uv --version 2>/dev/null | grep -qF "uv $(UV_VERSION)" || \
	    $(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
# Compiled once here: where Python may not write bytecode, each import of torch and timm takes ten seconds more.
	@$(SYNC) --offline 2>/dev/null || $(SYNC)
	@$(UV_PIP) install --offline --no-deps --no-build-isolation --editable .
	@printf '%s' "$(CURDIR)" > $@

book: $(STAMP)  ## Build the pages from the stored outputs
	@$(BOOK)
	@echo "or run: make serve"

pdf: book  ## Print the pages into one file, _build/pdf/avff-book.pdf; needs Chromium
	@$(BIN)/python book/make_pdf.py

test: lint unit nbval pages  ## Check everything: code, packages, notebooks run anew, pages in a browser

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

unit: $(STAMP)
	$(BIN)/python -m pytest -q -n 2 --dist worksteal --cov --cov-report= --cov-fail-under=90 tests --ignore tests/test_pages.py

nbval: $(STAMP)
	$(BIN)/python -m pytest -q --nbval -n 2 --dist loadscope notebooks

pages: $(STAMP)
# Sphinx renews a page of source code only when the code changes, not when what links to it moves.
	@rm -rf _build/html/_modules
	$(BOOK) --all -W -n --keep-going
	$(BIN)/python -m pytest -q tests/test_pages.py

notebooks: $(STAMP)  ## Run all notebooks anew and store their outputs (NOTEBOOKS=... for some)
	@$(BIN)/python book/run_notebooks.py $(NOTEBOOKS)

bench: $(STAMP)  ## Measure speed and memory, 40 minutes (BENCHMARKS=... for some), for the page of them
	@$(UV_PIP) install --no-deps --target build/bench --requirement benchmarks/requirements.txt
	@$(BIN)/python benchmarks/run.py $(BENCHMARKS)

lock: $(STAMP)  ## Resolve requirements.in into requirements.txt, keeping the pins that still fit
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 requirements.in -o requirements.txt

canary: $(STAMP)  ## Run tests and notebooks with the newest versions that pyproject.toml allows, in a temporary folder
	@$(BIN)/python book/canary.py

lab: $(STAMP)  ## Open the notebooks in JupyterLab
# From this folder, since the chapters show pictures of book/_assets.
	@$(BIN)/jupyter lab --ServerApp.root_dir=. --LabApp.default_url=/lab/tree/notebooks

serve: book  ## Build the pages and serve them on http://localhost:8000
	@$(BIN)/python -m http.server --bind 127.0.0.1 --directory _build/html 8000

clean:  ## Remove what was built; .venv stays
	@rm -rf _build build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
