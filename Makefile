# make demo [ARGS='--once --servers nginx']   three media servers and a page to try them, on this machine only
# make test                                   all that CI checks, on every core
# make test ARGS='-k name'                    only these tests, in one process
# make lint                                   what CI checks without running the product
# make chaos [ARGS='--only kill --seed 1']    kill, cut off, fill up; then count what was lost (0)
# make bench [ARGS='--quick']                 compares with what one would use instead; the rows are in benchmarks/
# make clean                                  removes what these made

PYTHON ?= python3
ARGS ?=
VENV := .venv
PIP := $(VENV)/bin/python -m pip --quiet --disable-pip-version-check
INSTALL := $(PIP) install --constraint constraints.txt --editable
INSTALLED_FROM := setup.cfg pyproject.toml constraints.txt

# The stock servers that ARGS asks for, to be installed before they are started.
STOCK := $(foreach kind,nginx lighttpd apache,$(if $(findstring $(kind),$(ARGS)),$(kind)))

export PYTHON

.PHONY: demo test lint chaos bench clean

demo: $(VENV)/.demo
	@$(if $(STOCK),tests/setup-servers --required $(STOCK))
	@$(VENV)/bin/resto demo $(ARGS)

# A selection is not judged by what it does not cover, and workers would take longer to start than most modules to run.
ifeq ($(strip $(ARGS)),)
test: lint
	@tests/setup-servers all
	$(VENV)/bin/coverage erase
	$(VENV)/bin/coverage run -m pytest --numprocesses auto --dist worksteal
	$(VENV)/bin/coverage combine --quiet
	$(VENV)/bin/coverage report
else
test: $(VENV)/.test
	@tests/setup-servers all
	$(VENV)/bin/python -m pytest $(ARGS)
endif

lint: $(VENV)/.test
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

chaos: $(VENV)/.test
	@tests/setup-servers --required nginx
	@tests/setup-servers links
	@$(VENV)/bin/python tests/chaos $(ARGS)

bench: $(VENV)/.bench
	@tests/setup-servers --required nginx
	@$(VENV)/bin/python benchmarks $(ARGS)

$(VENV)/.demo: $(INSTALLED_FROM) | $(VENV)/.made
	@$(INSTALL) '.[cli,server]'
	@touch $@

$(VENV)/.test: $(INSTALLED_FROM) | $(VENV)/.made
	@$(INSTALL) '.[test]'
	@touch $@

$(VENV)/.bench: $(INSTALLED_FROM) | $(VENV)/.made
	@$(INSTALL) '.[bench]'
	@touch $@

# Debian keeps ensurepip in a package of its own. A .venv that is there and works is left as it is.
$(VENV)/.made:
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.10 or newer is needed: there is no $(PYTHON)" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "Python 3.10 or newer is needed: $(PYTHON) is $$($(PYTHON) -V 2>&1)" >&2; exit 1; }
	@$(VENV)/bin/python -m pip --version >/dev/null 2>&1 || \
		{ tests/setup-servers --required venv && $(PYTHON) -m venv --clear $(VENV); }
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis \
		.import_linter_cache
	find resto_wsgi tests examples benchmarks -name __pycache__ -prune -exec rm -rf {} +
