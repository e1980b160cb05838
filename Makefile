# Everything runs in a virtual environment beside this file; PYTHON may name another interpreter.
PYTHON ?= $(or $(shell command -v python3.11),python3)
VENV := .venv
BIN := $(VENV)/bin
OLLAMA ?= 0.34.4
# Engines that load and answers that are awaited leave a core idle: two for each core of a small one.
WORKERS ?= 4
UPGRADE ?= --upgrade
# Tests start the command line hundreds of times, and without bytecode each compiles the package.
unexport PYTHONDONTWRITEBYTECODE
# What the bounds of the dependencies are tried with: every unit, and the main job on a real server.
MAIN_JOB := test_a_short_name_becomes_a_model_that_calls_tools_and_a_second_run_changes_nothing
SHORT := tests/unit tests/live/test_smoke.py tests/live/test_example.py tests/live/test_create.py::$(MAIN_JOB)
LOCKED := pip install --quiet --require-hashes --requirement
# Without its header a lock says nothing of the machine or the index that it was made with.
COMPILE := uv pip compile --quiet --universal --generate-hashes --no-header $(UPGRADE) pyproject.toml

.DEFAULT_GOAL := help
.PHONY: help setup lock demo test test-gateway test-exact test-llama test-clients test-old test-faults test-stress test-fleet test-lowest test-newest lint types testbed testbed-hosts docs bench gpu-bundle test-gpu-bundle clean

help:  ## Show what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

setup: $(VENV)/ready  ## Make the virtual environment with everything for work on the package

$(VENV)/ready: pyproject.toml requirements/dev.txt
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m $(LOCKED) requirements/dev.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

$(VENV)/fleet: $(VENV)/ready requirements/fleet.txt
	$(BIN)/python -m $(LOCKED) requirements/fleet.txt
	touch $@

lock: setup  ## Renew the locked environments (UPGRADE= keeps what still fits)
	$(BIN)/$(COMPILE) --output-file requirements/run.txt
	$(BIN)/$(COMPILE) --extra gateway --constraint requirements/run.txt --output-file requirements/gateway.txt
	$(BIN)/$(COMPILE) --group dev --constraint requirements/gateway.txt --output-file requirements/dev.txt
	$(BIN)/$(COMPILE) --group dev --group fleet --constraint requirements/dev.txt --output-file requirements/fleet.txt

demo: setup  ## Make a miniature Devstral on a real Ollama server, and check it
	$(BIN)/python -m tests.testbed.demo

test: setup  ## Run the tests, on a real server of the newest release
	$(BIN)/python -m pytest tests/unit tests/live -n $(WORKERS) -m 'not old_server'

test-gateway: setup  ## Put the gateway before a real server, and all surfaces through it
	$(BIN)/python -m pytest tests/gateway -n $(WORKERS) -m 'not old_server'

test-exact: setup  ## Compare prompts and tool calls of the newest release with the reference
	$(BIN)/python -m pytest tests/parity tests/conformance -n $(WORKERS) --dist loadgroup -m 'not old_server'

test-llama: setup  ## Run each printed command line of llama.cpp's programs on today's
	$(BIN)/python -m pytest tests/llama -n $(WORKERS)

test-clients: setup  ## Drive real client packages against a real server (needs Node.js)
	$(BIN)/python -m pytest tests/clients

test-fleet: $(VENV)/fleet  ## Run the tests of the Ansible collection, on hosts of their own (needs root)
	$(BIN)/python -m pytest tests/fleet $(FLEET)

test-old: setup  ## Run the tests that need a real server of the older generation
	$(BIN)/python -m pytest tests/live tests/gateway tests/parity -m old_server

test-faults: setup  ## Put a choice of faults between the command line, a real server and the hub
	$(BIN)/python -m pytest tests/faults -n $(WORKERS) --dist loadgroup

test-stress: setup  ## Let processes fall over each other on one name for about a minute
	$(BIN)/python -m pytest tests/stress

test-lowest: setup  ## Run the short suite with every dependency at its lower bound
	$(call with_versions,lowest,--resolution lowest-direct)

test-newest: setup  ## Run the short suite with the newest of every dependency
	$(call with_versions,newest,--upgrade)

define with_versions
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(VENV)-$(1)
	$(BIN)/uv pip install --quiet --python $(VENV)-$(1)/bin/python $(2) --editable . --group dev
	@echo 'versions: locked (<), $(1) (>)'
	@$(BIN)/uv pip freeze --python $(BIN)/python > $(VENV)-$(1)/locked.txt
	@$(BIN)/uv pip freeze --python $(VENV)-$(1)/bin/python | diff $(VENV)-$(1)/locked.txt - | grep '^[<>]' || true
	$(VENV)-$(1)/bin/python -m pytest $(SHORT) -n $(WORKERS) -m 'not old_server'
endef

lint: setup  ## Check style, and that generated files are up to date
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/devstral-ollama render --check

types: setup  ## Check types
	$(BIN)/mypy

testbed: setup  ## Start a server and the hub, and print where they are (OLLAMA=0.24.0 for the older)
	@$(BIN)/python -m tests.testbed --ollama $(OLLAMA)

testbed-hosts: setup  ## Start three hosts and what they fetch from, and print the inventory (needs root)
	@$(BIN)/python -m tests.testbed.hosts

docs: setup  ## Write all that is generated anew: references, rooms, roles, Modelfiles
	$(BIN)/python -m docs.generate
	$(BIN)/python -m docs.collection
	$(BIN)/python -m docs.rooms

bench: setup  ## Print the benchmarks' ratios
	$(BIN)/python -m benchmarks.start_up
	$(BIN)/python -m benchmarks.first_create
	$(BIN)/python -m benchmarks.prefix_reuse
	$(BIN)/python -m benchmarks.template_speed
	$(BIN)/python -m benchmarks.header

gpu-bundle: setup  ## Pack .gpu/, which measures a real graphics card without any network
	@$(BIN)/python -m benchmarks.gpu.bundle

test-gpu-bundle: setup  ## Pack .gpu/, and prove it here without a card or network (needs root)
	$(BIN)/python -m pytest tests/gpu

clean:  ## Remove the virtual environment and caches beside this file
	rm -rf $(VENV) $(VENV)-lowest $(VENV)-newest .gpu .mypy_cache .ruff_cache .pytest_cache .hypothesis dist
