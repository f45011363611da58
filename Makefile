# Two commands do everything on a machine with Python >= 3.11, make and git: `make demo` and `make test`.
.PHONY: demo test test-slow test-faults mutants setup lint bench catalogue pretrain leaderboard tour clean
BIN := .venv/bin
RUN := OMP_NUM_THREADS=1 PYTHONHASHSEED=0

demo: setup ## eight fine-tuning methods x five operators on the embedded suite, then the leaderboard
	@$(BIN)/bench run --grid demo --store store
	@$(BIN)/bench leaderboard build --store store --out store/leaderboard
	@echo "next: source .venv/bin/activate (puts bench on the PATH of this shell), then bench ls operators"

test: setup ## everything that is quick
	@$(RUN) $(BIN)/python -m pytest -q -n 2 --dist loadfile

test-slow: setup ## a browser, Ray, the paper's grid in miniature, simulations
	@$(RUN) $(BIN)/python -m pytest -q -n 2 --dist loadfile -m "slow and not gpu" --ignore tests/bench/driver/test_faults.py

test-faults: setup ## twenty kills on a two-node Ray cluster; wants a quiet machine
	@$(RUN) $(BIN)/python -m pytest -q -s -m slow tests/bench/driver/test_faults.py

mutants: setup ## plants every known fault, one at a time: do the tests notice? some minutes
	@$(RUN) $(BIN)/python -m tests.mutants

setup: .venv/.installed

.venv/.installed: pyproject.toml constraints.txt .ci/setup
	@sh .ci/setup

lint: setup
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

bench: setup ## speed and memory against references, ratios in one run
	@$(RUN) $(BIN)/python -m benchmarks

catalogue: setup ## rewrite bench/assets/catalogue.json from the registries
	@$(BIN)/python -m bench.registry.live

tour: setup ## execute docs/tour.ipynb again; equal outputs are equal bytes
	@$(RUN) $(BIN)/python docs/run_tour.py

pretrain: setup ## repeat the pre-training of the shipped backbone (about an hour on one core)
	@$(RUN) $(BIN)/python -m bench.pixels.mini8.pretrain

clean:
	rm -rf .venv store build dist *.egg-info
