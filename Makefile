# Everything runs in .venv, which is made from nothing but Python and pip.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SCENE := examples/data/kampala.tif
OUT := build/kampala_buildings.gpkg
# Two processes take the test files in their order, so that files of few but long tests are not last.
SHARED := -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: demo test test-full lint clean

demo: $(VENV)/.demo
	mkdir -p $(dir $(OUT))
	$(BIN)/geohr segment $(SCENE) --out $(OUT) --overwrite

test: $(VENV)/.test lint
	$(BIN)/python -m pytest $(SHARED) -m "not full"

test-full: $(VENV)/.test lint
	$(BIN)/python -m pytest $(SHARED)

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The constraints hold the versions that the tests pass with. On a machine without an NVIDIA driver
# torch comes without CUDA, which saves 4 GB, where PyTorch's own index can be reached.
$(VENV)/.demo: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python install/cpu_torch.py --constraint constraints.txt
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable '.[openvino]'
	touch $@

$(VENV)/.test: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python install/cpu_torch.py --constraint constraints.txt
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable '.[test]'
	touch $@ $(VENV)/.demo

clean:
	rm -rf $(VENV) build dist site
