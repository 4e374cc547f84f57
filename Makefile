# Two commands for a newcomer: `make demo` and `make test`. Both need only python3 (3.11 or newer) and make
# their own virtual environment in .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready

.PHONY: demo test lint unit docs pictures bench claims gauntlet clean

demo: $(READY)  ## synthetic scenes -> shards -> mixture -> a tiny model on CPU -> scores; REALDATA=DIR adds iBims-1
	@PATH="$(CURDIR)/$(BIN):$$PATH" bash docs/demo.sh

test: lint unit  ## everything CI runs

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/basedpyright --level error
	$(BIN)/vulture
	$(BIN)/pylint vlm3data vlm3train pipelines

unit: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto

docs: $(READY)  ## the site, in out/site; every link and anchor is checked
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --config-file docs/site/mkdocs.yml

pictures: $(READY)  ## docs/images/*.svg, drawn by the code that they are about
	$(BIN)/python docs/pictures.py
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python docs/terminal.py

bench: $(READY)  ## the tables of docs/expected_results.md
	$(BIN)/python -m benchmarks.convert
	$(BIN)/python -m benchmarks.convert_distorted
	$(BIN)/python -m benchmarks.nuscenes
	$(BIN)/python -m benchmarks.occlusion
	$(BIN)/python -m benchmarks.covisibility
	$(BIN)/python -m benchmarks.calibration
	$(BIN)/python -m benchmarks.colmap
	$(BIN)/python -m benchmarks.sens
	$(BIN)/python -m benchmarks.stream
	$(BIN)/python -m benchmarks.mixture
	$(BIN)/python -m benchmarks.rerender
	$(BIN)/python -m benchmarks.scale
	$(BIN)/python -m benchmarks.synthetic

claims: $(READY)  ## docs/claims.md from the results in benchmarks/results/claims
	$(BIN)/python -m benchmarks.claims.report

# Goes on where the last run stopped (hours, for all of it) and writes docs/reliability.md. With MINUTES=2 a short form:
# about so many minutes for each part, a few cases of everything, and nothing written but out/gauntlet.json.
gauntlet: $(READY)  ## damaged files, kills, full disks, an hour of soak, other people's code, planted faults; MINUTES=2
ifdef MINUTES
	$(BIN)/python -m tests.gauntlet --minutes $(MINUTES) --cases 1000 --kills 60 --fresh --path out/gauntlet.json
	$(BIN)/python -m tests.gauntlet soak --minutes $(MINUTES) --path out/gauntlet.json
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto tests/differential tests/benchmarks/test_mutants.py
	$(BIN)/python -m tests.gauntlet table --path out/gauntlet.json
else
	$(BIN)/python -m tests.gauntlet --minutes 600
	$(BIN)/python -m tests.gauntlet soak --minutes 60
	$(BIN)/python -m benchmarks.differential
	$(BIN)/python -m benchmarks.mutants --retry
	$(BIN)/python -m tests.gauntlet table
endif

clean:
	rm -rf $(VENV) out

# torch goes first and by itself: pip then takes a CPU build where one is offered, and nothing later asks for another.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "vlm3 needs Python 3.11 or newer; say make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(READY)
