# demo, test, test-processes, test-slurm, lint, docs, real, evidence and bench: each sets itself up in .venv, once.

PYTHON ?= python3
CORES ?= $(shell nproc)
export GRCSF_SHARED ?= ../shared
BIN := .venv/bin

SNAKEMAKE := $(BIN)/snakemake --cores $(CORES)
# Trainings of several tests run side by side, so each keeps to one thread.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses $(CORES) --dist worksteal
CONFIGS := $(filter-out config/apply.yaml,$(wildcard config/*.yaml))  # that one needs a model
EVIDENCE := results/evidence

.PHONY: help demo test test-processes test-slurm lint lint-style lint-types lint-rules format docs real evidence bench bench-gpu clean
.DELETE_ON_ERROR:

help:
	@echo "make demo    run the whole pipeline on synthetic images (config/demo.yaml)"
	@echo "make test    run the tests"
	@echo "make test-processes   run those that start Python and environments from nothing, or kill jobs"
	@echo "make test-slurm  run the pipeline on a private SLURM of two nodes, where SLURM is installed"
	@echo "make lint    check style, types, rules and configurations"
	@echo "make format  bring the sources into the style that lint asks for"
	@echo "make docs    build the documentation as one site, with search: site/index.html"
	@echo "make real    run the pipeline on the real images of GRCSF_SHARED, where they are"
	@echo "make evidence  compare the methods on those images: hours, and it goes on where it stopped"
	@echo "make bench   print the benchmarks' tables and keep their figures in benchmarks/results"
	@echo "make bench-gpu   the same for those that need a GPU"
	@echo "make clean   delete .venv and caches; results stay"

demo: .venv/.ready
	$(SNAKEMAKE)
	@echo "reports:" && ls -1 $(CURDIR)/results/*/report/report.html

test: .venv/.ready
	$(PYTEST) -m "not processes"

test-processes: .venv/.ready
	$(PYTEST) -m processes

# Two clusters side by side, one for each file of tests.
test-slurm:
	@missing=$$(tests/slurm/cluster.sh missing); \
	if [ -n "$$missing" ]; then \
	    echo "skipped: $$missing (see docs/how-to/slurm.md)"; \
	else \
	    $(MAKE) --no-print-directory .venv/.ready && $(BIN)/pytest --numprocesses 2 --dist loadfile tests/slurm; \
	fi

lint: .venv/.ready
	@$(MAKE) --no-print-directory --jobs $(CORES) --output-sync lint-types lint-rules lint-style

lint-style:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check workflow

lint-types:
	$(BIN)/mypy

lint-rules:
	@for config in $(CONFIGS); do \
	    echo "snakemake --lint --configfile $$config"; \
	    $(BIN)/snakemake --lint --configfile $$config || exit 1; \
	done

format: .venv/.ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt workflow

# Every link and anchor holds, nothing is loaded from elsewhere, or it fails.
docs: .venv/.docs
	$(BIN)/python docs/build.py

real: .venv/.ready
	@if [ ! -d "$$GRCSF_SHARED/real" ]; then \
	    echo "skipped: no real images in $$GRCSF_SHARED/real (set GRCSF_SHARED to their folder)"; \
	else \
	    $(SNAKEMAKE) --configfile config/real-nodules.yaml && \
	    $(SNAKEMAKE) --configfile config/real-stroke.yaml && \
	    echo "reports:" && ls -1 $(CURDIR)/results/*/report/report.html; \
	fi

# Each part goes on where it stopped, so that a call that was ended is simply made again.
evidence: .venv/.ready
	@if [ ! -d "$$GRCSF_SHARED/real" ]; then \
	    echo "skipped: no real images in $$GRCSF_SHARED/real (set GRCSF_SHARED to their folder)"; \
	else \
	    $(MAKE) --no-print-directory $(EVIDENCE)/images && \
	    for name in strokes nodules; do \
	        $(SNAKEMAKE) --configfile config/evidence-$$name.yaml && \
	        $(BIN)/python benchmarks/evidence.py --config config/evidence-$$name.yaml \
	            --output $(EVIDENCE) || exit 1; \
	    done; \
	fi

# Renamed when all are there, so that images of a call that was ended are made anew.
$(EVIDENCE)/images:
	@echo "making 364 semi-real heads in $@, some minutes"
	@rm -rf $@.part && mkdir -p $@.part
	@$(BIN)/python "$$GRCSF_SHARED/real/stroke-lesions/make_strokes.py" $@.part \
	    --cases 264 --healthy 100 --cohorts 24 --seed 1 --spacing 2.4 > $@.part/made.txt
	@mv $@.part $@

# Those that fit in a quarter of an hour on two cores; each script's first lines tell of the others.
bench: .venv/.ready
	$(BIN)/python benchmarks/residual_maps.py --slices 2
	$(BIN)/python benchmarks/reading.py
	$(BIN)/python benchmarks/training.py
	$(BIN)/python benchmarks/networks.py
	$(BIN)/python benchmarks/postprocess.py --slices 400
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python benchmarks/planning.py
	$(BIN)/python benchmarks/scale.py --cases 100 500
	$(BIN)/python benchmarks/starts.py

# On a machine with a GPU: seconds, the share of its matrix peak, and a training step's memory.
bench-gpu: .venv/.ready
	$(BIN)/python benchmarks/residual_maps.py --device cuda --slices 189
	$(BIN)/python benchmarks/residual_stage.py --device cuda --cases 40
	$(BIN)/python benchmarks/residual_stage.py --device cuda --cases 40 --compile
	$(BIN)/python benchmarks/training.py --device cuda --width 64 --size 224 --batch 21 --preset large --mae-batch 32 --compile
	$(BIN)/python benchmarks/memory.py --measure
	$(BIN)/python benchmarks/rates.py --device cuda

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info

# Made last, so that an installation that was cut off is taken up again.
.venv/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "error: $(PYTHON) is not Python 3.11 or later; call make PYTHON=/path/to/one"; exit 1; }
	@$(PYTHON) -m venv .venv || \
	    { echo "error: $(PYTHON) cannot make a virtual environment; install its venv module"; exit 1; }
	@echo "installing into .venv, once"
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev,bench]"
	@touch $@

.venv/.docs: .venv/.ready
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[docs]"
	@touch $@
