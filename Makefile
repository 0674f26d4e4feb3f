# Each target makes .venv itself when it is missing, and installs anew when pyproject.toml or constraints.txt change.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-integrations test-ray test-oldest fuzz torture lint bench docs screenshots try-readme wheel

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
INTEGRATIONS := .venv-integrations
RAY := .venv-ray
OLDEST := .venv-oldest
PYTEST_ARGS ?=
FUZZ_ARGS ?=
TORTURE_ARGS ?=

# No window and no sound card are needed; set SDL_VIDEODRIVER to see the real environments.
export SDL_VIDEODRIVER ?= dummy
export SDL_AUDIODRIVER ?= dummy

help:
	@echo "make demo    evolve an agent in the shipped Doom dream, score it on the real one, write demo/report.html"
	@echo "make test    lint, types, floors, then the tests (PYTEST_ARGS='-m \"not slow\"' for a short run, '-n 0' in one process)"
	@echo "make test-integrations    TorchRL, RLlib, skrl, RL Zoo, SBX and Gymnasium's wrappers, in $(INTEGRATIONS)"
	@echo "make test-ray    workers on a Ray cluster of three nodes on this machine, in $(RAY)"
	@echo "make test-oldest  the tests of what is stored and stepped, with the oldest dependencies, in $(OLDEST)"
	@echo "make fuzz    ten thousand damaged inputs of every kind, into build/fuzz.json (FUZZ_ARGS='--inputs 500': fewer)"
	@echo "make torture  runs that are stopped at any moment, 10 million dreamed steps, 10,000 visitors, into build/torture.json"
	@echo "make lint    ruff, mypy and import-linter"
	@echo "make bench   steps per second of the dreams and of what else there is, into bench.json"
	@echo "make docs    the documentation site, into build/docs"
	@echo "make screenshots  pictures of the web page in a headless Chromium, into build/screenshots/"
	@echo "make try-readme  the first screen of README.md in a bare virtual environment; before a release"
	@echo "make wheel   sdist and wheel, into dist/"

$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt --editable '.[all,dev,docs]'
	@touch $@

demo: $(INSTALLED)
	$(BIN)/dreamenv demo --out demo

test: lint
	$(BIN)/python -m pytest -n 2 --dist loadgroup $(PYTEST_ARGS)

# Ray pins an older Gymnasium and moviepy an older Pillow, so the other libraries live apart from the developer's tools.
$(INTEGRATIONS)/.installed: pyproject.toml constraints-integrations.txt
	test -x $(INTEGRATIONS)/bin/pip || $(PYTHON) -m venv $(INTEGRATIONS)
	$(INTEGRATIONS)/bin/python -m pip install --disable-pip-version-check --constraint constraints-integrations.txt \
		--editable '.[sbx,integrations]' array-api-compat hypothesis pytest
	@touch $@

test-integrations: $(INTEGRATIONS)/.installed
	$(INTEGRATIONS)/bin/python -m pytest tests/integrations tests/sb3/test_models.py tests/envs/test_gymnasium_wrappers.py $(PYTEST_ARGS)

$(RAY)/.installed: pyproject.toml constraints.txt constraints-ray.txt
	test -x $(RAY)/bin/pip || $(PYTHON) -m venv $(RAY)
	$(RAY)/bin/python -m pip install --disable-pip-version-check --constraint constraints.txt \
		--constraint constraints-ray.txt --editable '.[real,train,sb3,ray]' pytest hypothesis
	@touch $@

test-ray: $(RAY)/.installed
	$(RAY)/bin/python -m pytest tests/workers $(PYTEST_ARGS)
# PyTorch's older CPU builds are in no index that pip asks, so it stays as constraints.txt has it.
$(OLDEST)/.installed: pyproject.toml tests/oldest.py
	test -x $(OLDEST)/bin/pip || $(PYTHON) -m venv $(OLDEST)
	$(PYTHON) tests/oldest.py > $(OLDEST)/requirements.txt
	$(OLDEST)/bin/python -m pip install --disable-pip-version-check $$(grep '^torch==' constraints.txt) uv
	$(OLDEST)/bin/uv pip install --python $(OLDEST)/bin/python --requirement $(OLDEST)/requirements.txt
	@touch $@

# Not installed there, since Gymnasium's oldest Box2D has no wheel; the tests import the package from this folder.
test-oldest: $(OLDEST)/.installed
	$(OLDEST)/bin/python -m pytest -n 2 -m "not slow and not integration" -o filterwarnings= tests/test_world_model.py \
		tests/test_bundle_damage.py tests/test_registration.py tests/test_files.py tests/data/test_episodes.py \
		tests/data/test_episode_damage.py tests/data/test_collect.py tests/envs/test_dream_env.py \
		tests/envs/test_dream_vector_env.py tests/agents/test_resolve.py tests/sb3/test_models.py tests/cli/test_cli.py \
		tests/serve/test_messages.py $(PYTEST_ARGS)

fuzz: $(INSTALLED)
	$(BIN)/python -m tests.fuzz --inputs 10000 --json build/fuzz.json $(FUZZ_ARGS)

torture: $(INSTALLED)
	$(BIN)/python -m tests.torture --json build/torture.json $(TORTURE_ARGS)

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(INSTALLED)
	$(BIN)/dreamenv bench --compare --training --startup --json bench.json

docs: $(INSTALLED)
	$(BIN)/sphinx-build --fail-on-warning --keep-going -d build/doctrees docs build/docs

wheel: $(INSTALLED)
	$(BIN)/python -m build --no-isolation --outdir dist

screenshots: $(INSTALLED)
	$(BIN)/python -m tests.serve.screenshots --out build/screenshots

try-readme: $(INSTALLED)
	$(BIN)/python -m tests.docs.try_readme
