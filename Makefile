# The one door. `make help` lists what there is; every command of the README goes through here.
SHELL := /bin/bash
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# The first of these that is a Python 3.11, 3.12 or 3.13; PYTHON=python3.12 overrules it.
FIND_PYTHON = for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' >/dev/null 2>&1 && echo $$p && break; done
ifndef PYTHON
PYTHON := $(shell $(FIND_PYTHON))
endif
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)

BUNDLE ?= bundles/demo
HOST ?= 127.0.0.1
PORT ?= 8000
DEVICE ?= auto
ARGS ?=

# onnxruntime 1.29 and newer reports its sessions to its makers unless this is set.
export ORT_DISABLE_TELEMETRY := 1

# The two onnxruntime wheels break each other, so each has a virtual environment of its own; and the
# service's must not hold torch, so training and tests have theirs.
ifeq ($(DEVICE),cuda)
SERVE := .venv-gpu
else
SERVE := .venv
endif
TEST := .venv-test
DEV := .venv-dev
AUDIT := .venv-audit
SHIPPED := .venv-shipped
PEERS := .venv-peers

# What is installed in each. A stamp per Python version: another PYTHON= makes the environment anew.
$(SERVE)/.made-$(VERSION): EXTRAS := $(if $(filter cuda,$(DEVICE)),gpu,cpu),client,docs
$(TEST)/.made-$(VERSION): EXTRAS := cpu,test
$(DEV)/.made-$(VERSION): EXTRAS := cpu,train,dev

# What the image holds: deploy/locks/cpu.txt, or gpu.txt with DEVICE=cuda.
LOCK := $(if $(filter cuda,$(DEVICE)),gpu,cpu)
LICENCES := MIT;BSD;Apache;PSF$(if $(filter cuda,$(DEVICE)),;NVIDIA)

# Tests on all cores; ARGS='-n 0' for one at a time, as a debugger wants it.
AT_ONCE := -n logical --maxprocesses 4

.PHONY: help serve test test-service test-e2e torture lint format bench demo train-demo openapi notebook audit sbom licences locks clean python

help: ## this list
	@sed -nE 's/^([a-z0-9-]+):.*## (.*)/make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 22

serve: $(SERVE)/.made-$(VERSION) ## start the service (HOST= PORT= DEVICE=auto|cuda|cpu BUNDLE=)
	@FACESWAPD_HOST=$(HOST) FACESWAPD_PORT=$(PORT) FACESWAPD_DEVICE=$(DEVICE) FACESWAPD_BUNDLE=$(BUNDLE) \
		exec $(SERVE)/bin/python -m service

# Without a browser the tests of the page leave themselves out and say so; in CI they fail.
test: lint ## lint, then all tests
	@$(DEV)/bin/python -m tests.page.browser || true
	$(DEV)/bin/python -m pytest $(AT_ONCE) $(ARGS)

test-service: $(TEST)/.made-$(VERSION) ## the tests that need no torch, in an environment without it
	$(TEST)/bin/python -m pytest $(AT_ONCE) $(ARGS)

test-e2e: $(DEV)/.made-$(VERSION) ## the page at / in Chromium, which apt installs if it is missing
	@$(DEV)/bin/python -m tests.page.browser
	$(DEV)/bin/python -m pytest tests/page $(ARGS)

torture: $(DEV)/.made-$(VERSION) ## hostile input and faults in full, 45 minutes: benchmarks/results/torture.json
	$(DEV)/bin/python -m benchmarks.torture $(ARGS)

lint: $(DEV)/.made-$(VERSION) ## ruff, mypy --strict, import-linter
	$(DEV)/bin/ruff check .
	$(DEV)/bin/ruff format --check .
	$(DEV)/bin/mypy
	$(DEV)/bin/lint-imports --no-cache

format: $(DEV)/.made-$(VERSION) ## put the code into ruff's form
	$(DEV)/bin/ruff check --fix .
	$(DEV)/bin/ruff format .

bench: $(SERVE)/.made-$(VERSION) $(PEERS)/.made-$(VERSION) ## the serving path beside its ceilings, peers and goals (DEVICE= BUNDLE=)
	$(SERVE)/bin/python -m benchmarks.serving --bundle $(BUNDLE) --device $(DEVICE) $(ARGS)

# The peers' own requirements and ours differ, so theirs is an environment without ours.
$(PEERS)/.made-$(VERSION): benchmarks/peers/requirements.txt | $(SERVE)/.made-$(VERSION)
	@echo "Installing the peers into $(PEERS); only once, it takes minutes"
	@$(SERVE)/bin/python -m benchmarks.peers --install $(PEERS)
	@touch $@

demo: $(SERVE)/.made-$(VERSION) ## a picture of sources and swaps: demo.png (BUNDLE=)
	$(SERVE)/bin/python -m examples.sheet examples/a.jpg examples/b.jpg --bundle $(BUNDLE) --out demo.png $(ARGS)

train-demo: $(DEV)/.made-$(VERSION) ## a short real training, exported to runs/train-demo/bundle
	$(DEV)/bin/python -m models.train --people examples/people --out runs/train-demo --minutes 3 --overwrite $(ARGS)
	$(DEV)/bin/python -m export runs/train-demo --out runs/train-demo/bundle --replace
	@echo "Serve it with: make serve BUNDLE=runs/train-demo/bundle"

openapi: $(DEV)/.made-$(VERSION) ## tests/service/openapi.json anew, after a change of the API that is meant
	$(DEV)/bin/python -m tests.write_openapi

notebook: $(DEV)/.made-$(VERSION) ## run examples/client/faceswapd.ipynb against `make serve` and keep what it shows
	$(DEV)/bin/python -m examples.client.notebook http://$(HOST):$(PORT)

audit: $(AUDIT)/.made-$(VERSION) ## known holes in what the image holds (asks PyPI; ARGS="-s osv" asks OSV)
	$(AUDIT)/bin/python deploy/audit.py deploy/locks/cpu.txt deploy/locks/gpu.txt $(ARGS)

sbom: $(SHIPPED)/$(LOCK)-$(VERSION) ## what the image holds, as CycloneDX: dist/sbom-cpu.json (DEVICE=cuda: the GPU image's)
	@mkdir -p dist
	$(AUDIT)/bin/cyclonedx-py environment --output-reproducible --pyproject pyproject.toml --of JSON \
		-o dist/sbom-$(LOCK).json $(SHIPPED)/bin/python

licences: $(SHIPPED)/$(LOCK)-$(VERSION) ## their licences: dist/licences-cpu.md; fails on one that nobody has agreed to
	@mkdir -p dist
	$(AUDIT)/bin/pip-licenses --python $(SHIPPED)/bin/python --from=mixed --format=markdown --with-urls \
		--allow-only="$(LICENCES)" --partial-match --output-file=dist/licences-$(LOCK).md

locks: $(AUDIT)/.made-$(VERSION) ## write deploy/locks anew from pyproject.toml and constraints.txt
	cd deploy/locks && $(LOCKED) ../../pyproject.toml --extra cpu -o cpu.txt
	cd deploy/locks && $(LOCKED) ../../pyproject.toml --extra gpu -o gpu.txt
	sed -nE 's/^requires = \["(.*)"\]$$/\1/p' pyproject.toml | (cd deploy/locks && $(LOCKED) - -o build.txt)
	cd deploy/locks && $(LOCKED) audit.in -o audit.txt

clean: ## remove the virtual environments and caches, not runs/
	rm -rf .venv .venv-gpu .venv-test .venv-dev $(AUDIT) $(SHIPPED) $(PEERS) .mypy_cache .ruff_cache .pytest_cache build dist
	find faceswap faceswap_client service models export benchmarks examples tests -name __pycache__ -prune -exec rm -rf {} +

python:
	@[ -n "$(VERSION)" ] || { echo "Python 3.11, 3.12 or 3.13 is needed; name one: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
		{ echo "Python 3.11, 3.12 or 3.13 is needed, $(PYTHON) is $(VERSION)" >&2; exit 1; }

%/.made-$(VERSION): pyproject.toml constraints.txt | python
	@echo "Installing into $* (extras $(EXTRAS), Python $(VERSION)); only once, it takes a minute or more"
	@$(PYTHON) -m venv --clear $*
	@$*/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS)]'
	@touch $@

# The tools look at other environments and must not be in them.
$(AUDIT)/.made-$(VERSION): deploy/locks/audit.txt | python
	@echo "Installing into $(AUDIT) (Python $(VERSION)); only once"
	@$(PYTHON) -m venv --clear $(AUDIT)
	@$(AUDIT)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

# As in the image: the locked files and no pip.
$(SHIPPED)/$(LOCK)-$(VERSION): deploy/locks/$(LOCK).txt $(AUDIT)/.made-$(VERSION)
	@echo "Installing deploy/locks/$(LOCK).txt into $(SHIPPED)"
	@$(PYTHON) -m venv --clear --without-pip $(SHIPPED)
	@$(AUDIT)/bin/pip --python $(SHIPPED)/bin/python install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

# One set of pins for all Pythons; no index in the files. uv reads the variables and settings of its own, not pip's.
LOCKED = $(CURDIR)/$(AUDIT)/bin/uv pip compile --quiet --universal --python-version 3.11 -c ../../constraints.txt \
	--generate-hashes --no-annotate --no-header --no-emit-index-url --no-emit-find-links --upgrade
