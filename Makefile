# The short way to everything; each line below can be run by hand as well.
#
#   make train ARGS="--sparsity topk:0.8"     make test ARGS="shaders::"

.PHONY: train test lint deny driver has-driver cards second-driver shaders-in-chrome

train: has-driver
	@cargo run --release -- train $(ARGS)

# In release, because the float64 references and the software driver are slow without optimisation.
test: has-driver
	cargo test --release $(ARGS)

lint:
	cargo fmt --check
	cargo clippy --release --all-targets -- -D warnings
	cargo clippy --release --lib --no-default-features -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --release --no-deps

# Licences, sources and duplicates of all packages, and advisories; needs `cargo install cargo-deny`.
deny:
	cargo deny check

# On Linux, says what is lacking before anything is built; macOS and Windows bring a driver.
has-driver:
	@sh scripts/vulkan-driver.sh --check

# Installs Mesa's software driver with the system's package manager where there is no driver yet.
driver:
	@sh scripts/vulkan-driver.sh

# What the compilers of cards make of the kernels: writes docs/cards.md, and fails where a budget is
# broken that is not known to be, or where a driver that has cooperative matrices and computes finds a
# product wrong. ARGS=--record writes down what is; ARGS=--check writes nothing.
cards:
	@scripts/cards.sh fetch
	@cargo run --release --quiet --example cards -- page $(ARGS)
	@$(MAKE) --no-print-directory second-driver

# SwiftShader, a software driver of another make than Mesa's: whether every kernel computes what it
# should there, and whether training runs.
second-driver: swiftshader = CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="scripts/cards.sh run swiftshader"
second-driver:
	@scripts/cards.sh fetch
	@directory=$$(mktemp -d) && trap 'rm -rf "$$directory"' EXIT && export CRISP_CACHE="$$directory" && \
	$(swiftshader) cargo run --release --quiet -- doctor && \
	$(swiftshader) cargo run --release --quiet -- train --model quickstart --output "$$directory/run" \
		--batch-size 8 --max-steps 5 --max-eval-samples 20

# Every shader in every shape that is known, through the compiler that Chrome ships.
shaders-in-chrome: tests/chrome/node_modules/.package-lock.json
	@directory=$$(mktemp -d) && trap 'rm -rf "$$directory"' EXIT && \
	cargo run --release --quiet -- shaders "$$directory" --all && \
	node tests/chrome/check.mjs "$$directory"

# The package is a compiled library and a file of JavaScript; it needs no install script.
tests/chrome/node_modules/.package-lock.json: tests/chrome/package-lock.json
	npm ci --prefix tests/chrome --ignore-scripts --no-audit --no-fund
