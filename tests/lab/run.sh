#!/usr/bin/env bash
# What the Makefile's targets do.
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH=$PATH:$HOME/.cargo/bin
# shellcheck source=tests/lab/steps.sh
. tests/lab/steps.sh

TARGET=${CARGO_TARGET_DIR:-target}
LAB=$TARGET/debug/examples/kerbgate-lab

packages() {
    say "packages, log: $LOGS/packages.log"
    tests/lab/packages.sh
}

first_time() { [ -d "$TARGET/debug/deps" ] || echo " (first time: several minutes)"; }

demo() {
    steps_of 3
    packages
    step "compiling$(first_time)" build.log cargo build --bin kerbgate --example kerbgate-lab
    say "starting Active Directory, the applications, the Entra emulator and Kerbgate"
    "$LAB" up --demo --dir .lab "$@" | sed 's/^/            /'
    echo
    echo "Open one of these in a browser on this machine (trust .lab/pki/ca.pem, or accept the warning):"
    sed -n 's/.*"url": "\(.*\)".*/    \1/p' .lab/demo.json
    echo "Sign in as one of the people on the page, for example jane@fabrikam.example."
    echo "Everything about it: .lab/demo.json   Logs: .lab/logs/   Stop: make down"
}

down() {
    if [ -x "$LAB" ]; then
        "$LAB" down --dir .lab
    else
        echo "no lab was built here"
    fi
}

stop_test_lab() {
    if [ -x "$LAB" ] && [ -d "$TARGET/lab" ]; then "$LAB" down --dir "$TARGET/lab" >>"$LOGS/down.log" 2>&1 || true; fi
}

lint_steps() {
    step "format" fmt.log cargo fmt --check
    step "lints$(first_time)" clippy.log cargo clippy --all-targets -- -D warnings
    step "documentation" doc.log env RUSTDOCFLAGS="-D warnings" cargo doc --no-deps
}

# Coverage as cargo-fuzz asks for it, which stable Rust gives as well. In a folder of its own: the flags differ.
FUZZ_FLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table
    -Cllvm-args=-sanitizer-coverage-trace-compares"

# Without FUZZ_SECONDS every machine does the same: as many inputs, from the same seed and an empty corpus.
# With it what was found before is kept and tried first.
fuzz() {
    local host names name folder=$TARGET/fuzz limit=-runs=300000 corpus=$TARGET/fuzz/each-run
    if [ -n "${FUZZ_SECONDS:-}" ]; then
        limit=-max_total_time=$FUZZ_SECONDS corpus=$TARGET/fuzz/corpus
    fi
    rm -rf "$TARGET/fuzz/each-run"
    host=$(rustc -vV | sed -n 's/^host: //p')
    RUSTFLAGS=$FUZZ_FLAGS cargo build --locked --release --manifest-path tests/fuzz/Cargo.toml \
        --target "$host" --target-dir "$folder"
    names=$(sed -n 's/^path = "targets\/\(.*\)\.rs"/\1/p' tests/fuzz/Cargo.toml)
    for name in $names; do
        mkdir -p "$corpus/$name" "$folder/found"
        echo "== $name"
        "$folder/$host/release/$name" -seed=1 "$limit" -timeout=5 -rss_limit_mb=1024 \
            -dict=tests/fuzz/words.dict -verbosity=0 -print_final_stats=1 -artifact_prefix="$folder/found/$name-" "$corpus/$name" \
            $([ ! -d "tests/fuzz/seeds/$name" ] || echo "tests/fuzz/seeds/$name")
    done
    echo "no target found anything"
}

tests() {
    steps_of 8
    trap stop_test_lab EXIT
    trap 'exit 130' INT TERM
    packages
    lint_steps
    step "dependency rules" deny.log cargo deny --locked check bans licenses sources
    step "fuzzing the parsers" fuzz.log fuzz
    step "compiling the tests" build.log sh -c \
        'cargo build --example kerbgate-lab && cargo nextest run --no-run'
    say "tests, log: $LOGS/test.log"
    cargo nextest run 2>&1 | tee "$LOGS/test.log"
    echo "$(elapsed)  all is well"
}

lint() {
    steps_of 3
    lint_steps
}

# Not of a debug build: its figures are not the product's.
on_release() {
    local lab=$TARGET/release/examples/kerbgate-lab dir=$TARGET/$1
    steps_of 4
    packages
    step "compiling for release (first time: many minutes)" release.log \
        cargo build --release --bin kerbgate --example kerbgate-lab
    say "starting a lab of its own in $dir"
    # shellcheck disable=SC2064 # of this run's own folder
    trap "'$lab' down --dir '$dir' >>'$LOGS/down.log' 2>&1 || true" EXIT
    trap 'exit 130' INT TERM
    "$lab" up --demo --dir "$dir" --port 8543 --entra-port 8544 | sed 's/^/            /'
    say "$1, figures: $dir/$1.json"
    "$lab" "$1" --demo "$dir/demo.json" --json "$dir/$1.json" "${@:2}"
}

BENCH=
bench_ended() {
    if [ -n "$BENCH" ]; then
        kill "$BENCH" 2>/dev/null || true
        wait "$BENCH" || true
    fi
    "$LAB" down --dir "$TARGET/bench" >>"$LOGS/down.log" 2>&1 || true
}

# What is released, beside its peers. KERBGATE_BIN=file measures a build of your own instead.
bench() {
    local binary=${KERBGATE_BIN:-$TARGET/dist/kerbgate} built="build of its own (KERBGATE_BIN)" status=0
    steps_of 4
    say "packages, log: $LOGS/packages.log"
    tests/lab/packages.sh bench
    if [ -z "${KERBGATE_BIN:-}" ]; then
        built="dist profile (fat LTO)"
        step "compiling as for a release (first time: many minutes)" dist.log \
            cargo build --profile dist --bin kerbgate
    fi
    step "compiling the lab$(first_time)" build.log cargo build --example kerbgate-lab
    say "starting a lab of its own in $TARGET/bench, then measuring (eight minutes); figures: .lab/bench.json"
    trap bench_ended EXIT
    trap 'exit 130' INT TERM
    "$LAB" up --dir "$TARGET/bench" | sed 's/^/            /'
    # In the background: a signal shall not have to wait for the end of it.
    /usr/bin/python3 tests/lab/bench --lab "$LAB" --lab-folder "$TARGET/bench" --binary "$binary" \
        --built "$built" --json .lab/bench.json "$@" &
    BENCH=$!
    wait "$BENCH" || status=$?
    BENCH=
    return "$status"
}

case ${1:-} in
demo | down | lint) "$@" ;;
fuzz) fuzz ;;
bench) "$@" ;;
soak | measure) on_release "$@" ;;
test) tests ;;
*)
    echo "usage: $0 demo|down|test|lint|fuzz|soak|measure|bench" >&2
    exit 64
    ;;
esac
