# The words of this project's daily work; .ci/run runs check and test.
.PHONY: check test golden bench licences run

PYTHON ?= python3

# Format and lints.
check:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

# All tests, of all crates.
test:
	cargo test --workspace --no-fail-fast

# The program, optimised: make run ARGS='run --image examples/receipt.png "What is the total?"'
run:
	cargo run --release -- $(ARGS)

# Licences and sources of all dependencies, and that none of them brings C or C++. Needs cargo-deny.
licences:
	cargo deny check

# Makes the committed reference files anew. Needs Python with what each script names; never needed to build or to test.
golden:
	set -e; for script in scripts/make_*fixture*.py scripts/make_golden*.py; do \
	  if [ -e "$$script" ]; then echo "$$script"; $(PYTHON) "$$script"; fi; done

# Benchmarks of kernels, pictures, data and training.
bench:
	cargo bench --workspace
