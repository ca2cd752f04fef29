# Sourced by the scripts beside it: steps that say what they do, how far they are, and what failed.
#
#   steps_of 6                       how many there will be
#   step "compiling" build.log cargo build
#
# The output of a step goes to .lab/logs/; when it fails, its end is shown and the script ends.

LOGS=.lab/logs
mkdir -p "$LOGS"
STEP=0
STEPS=0
BEGAN=$SECONDS

steps_of() { STEPS=$1; }

elapsed() { printf '%3d:%02d' $(((SECONDS - BEGAN) / 60)) $(((SECONDS - BEGAN) % 60)); }

say() {
    STEP=$((STEP + 1))
    printf '%s  [%d/%d] %s\n' "$(elapsed)" "$STEP" "$STEPS" "$1"
}

# The last thing a log says, short enough for one line.
news() { tr '\r' '\n' <"$1" 2>/dev/null | grep -v '^[[:space:]]*$' | tail -n 1 | cut -c 1-70; }

# Waits for a process; shows now and then that it is alive.
watch_over() {
    local pid=$1 log=$2 every=15 next
    [ -t 1 ] && every=1
    next=$((SECONDS + every))
    while kill -0 "$pid" 2>/dev/null; do
        if [ "$SECONDS" -ge "$next" ]; then
            next=$((SECONDS + every))
            if [ -t 1 ]; then
                printf '\r\033[K%s        %s' "$(elapsed)" "$(news "$log")"
            else
                printf '%s        %s\n' "$(elapsed)" "$(news "$log")"
            fi
        fi
        sleep 0.2
    done
    [ -t 1 ] && printf '\r\033[K'
    wait "$pid"
}

step() {
    local what=$1 log=$LOGS/$2
    shift 2
    say "$what, log: $log"
    "$@" >"$log" 2>&1 &
    if ! watch_over $! "$log"; then
        echo
        echo "failed: $what"
        echo "the end of $log:"
        tail -n 40 "$log" | sed 's/^/    /'
        exit 1
    fi
}
