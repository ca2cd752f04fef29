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

tests() {
    steps_of 7
    trap stop_test_lab EXIT
    trap 'exit 130' INT TERM
    packages
    lint_steps
    step "dependency rules" deny.log cargo deny --locked check bans licenses sources
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

case ${1:-} in
demo | down | lint) "$@" ;;
test) tests ;;
*)
    echo "usage: $0 demo|down|test|lint" >&2
    exit 64
    ;;
esac
