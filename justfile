# Recipes, one line each. `just` alone lists them.

# Lists the recipes
default:
    @just --list

# Shows it work, in seconds
demo:
    cargo run --release -- demo

# Serves a file and follows its changes
run FILE="examples/hello.yaml":
    cargo run --release -- run {{FILE}}

# Runs all tests
test:
    cargo test --workspace

# Writes the golden files anew, to be read as a diff
golden:
    UPDATE_GOLDEN=1 cargo test --workspace

# Formats
fmt:
    cargo fmt --all

# Lints as strictly as .ci/run
lint:
    cargo clippy --workspace --all-targets -- -D warnings

# Builds the documentation
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

# Measures what has a benchmark
bench:
    cargo bench --workspace

# Builds target/pgo/serin, for what it does most (needs llvm-tools)
pgo:
    benches/pgo

# Fuzzes one target (needs nightly and cargo-fuzz)
fuzz TARGET="dtab_parse":
    cargo +nightly fuzz run {{TARGET}} fuzz/corpus/{{TARGET}} fuzz/seeds/{{TARGET}}

# Builds the static binary for the image
static:
    RUSTFLAGS="-C target-feature=+crt-static" cargo build --release --package serin --target x86_64-unknown-linux-gnu

# Everything that must hold
ci:
    .ci/run
