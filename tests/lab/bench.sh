#!/usr/bin/env bash
# `make bench`, given a running demo: the peers in front of the demo's header application, and Kerbgate.
#
#   bench.sh DEMO_JSON OUT_JSON [--quick] [--strict] [--only h1|h2]
#
# What is measured: processor time of the proxy's threads (schedstat, nanoseconds) over the requests
# that were answered with 200. Every proxy is on one core, the load generator on the other; access logs
# of nginx and HAProxy are written to a file, as Kerbgate's are. Servers and load end with this script, by pid.
set -euo pipefail
DEMO=$1 OUT=$2
shift 2
ROUNDS=5 SECONDS_EACH=6 STRICT= ONLY=
while [ $# -gt 0 ]; do
    case $1 in
    --quick) ROUNDS=2 SECONDS_EACH=2 ;;
    --strict) STRICT=yes ;;
    --only) ONLY=$2; shift ;;
    *) echo "bench: unknown option $1: --quick, --strict, --only h1|h2" >&2; exit 64 ;;
    esac
    shift
done
case $ONLY in '' | h1 | h2) ;; *) echo "bench: no case $ONLY: h1, h2" >&2; exit 64 ;; esac

field() { sed -n "s/.*\"$1\": *\"\{0,1\}\([^\",]*\).*/\1/p" "$DEMO" | head -n 1; }
WIKI=$(sed -n 's/.*"url": "\(https:\/\/wiki[^"]*\)".*/\1/p' "$DEMO")
CA=$(field ca)
GATEWAY=$(field kerbgate-pid)
[ -n "$GATEWAY" ] || GATEWAY=$(sed -n '/"pids"/,/}/s/.*"kerbgate": *\([0-9]*\).*/\1/p' "$DEMO")
BACKEND=${BENCH_BACKEND:?the address of the header application}
WORK=$(mktemp -d /tmp/kerbgate-bench.XXXXXX)
chmod 700 "$WORK"
PIDS=

finish() {
    for pid in $PIDS; do kill "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    # Every thread goes back to where it was.
    taskset -apc "$AFFINITY" "$GATEWAY" >/dev/null 2>&1 || true
    rm -rf "$WORK"
}
AFFINITY=$(taskset -pc "$GATEWAY" | sed 's/.*: //')
trap finish EXIT
trap 'exit 130' INT TERM

# A port nobody listens on, below the ephemeral ones.
free_port() {
    local port=$1
    while ss -Hltn "sport = :$port" | grep -q .; do port=$((port + 1)); done
    echo "$port"
}

certificate() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \
        -subj /CN=wiki.localhost -keyout "$WORK/key.pem" -out "$WORK/cert.pem" 2>/dev/null
    cat "$WORK/cert.pem" "$WORK/key.pem" >"$WORK/both.pem"
}

start_nginx() {
    NGINX=$(free_port 18543)
    cat >"$WORK/nginx.conf" <<END
daemon off; master_process off; worker_processes 1; pid $WORK/nginx.pid; error_log $WORK/nginx.err;
events { worker_connections 4096; }
http {
  access_log $WORK/nginx.log combined buffer=64k flush=1s;
  client_body_temp_path $WORK/b; proxy_temp_path $WORK/p; fastcgi_temp_path $WORK/f;
  uwsgi_temp_path $WORK/u; scgi_temp_path $WORK/s; keepalive_requests 100000000;
  upstream backend { server $BACKEND; keepalive 128; keepalive_requests 100000000; }
  server {
    listen 127.0.0.1:$NGINX ssl http2; ssl_protocols TLSv1.3;
    ssl_certificate $WORK/cert.pem; ssl_certificate_key $WORK/key.pem;
    location / { proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection ""; }
  }
}
END
    taskset -c 0 nginx -p "$WORK" -c "$WORK/nginx.conf" 2>>"$WORK/nginx.err" &
    NGINX_PID=$!
    PIDS="$PIDS $NGINX_PID"
}

start_haproxy() {
    HAPROXY=$(free_port 18643)
    cat >"$WORK/haproxy.cfg" <<END
global
  nbthread 1
  maxconn 4096
  log stdout format raw local0
defaults
  mode http
  log global
  option httplog
  http-reuse always
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend f
  bind 127.0.0.1:$HAPROXY ssl crt $WORK/both.pem alpn h2,http/1.1 ssl-min-ver TLSv1.3
  default_backend b
backend b
  server s $BACKEND
END
    taskset -c 0 haproxy -db -f "$WORK/haproxy.cfg" >"$WORK/haproxy.log" 2>&1 &
    HAPROXY_PID=$!
    PIDS="$PIDS $HAPROXY_PID"
}

# One sign-in at the emulator; the cookie of the application's host stays.
sign_in() {
    local jar=$WORK/jar page form where
    visit() {
        curl -s --cacert "$CA" -b "$jar" -c "$jar" -H 'Sec-Fetch-Mode: navigate' \
            -H 'Sec-Fetch-Dest: document' -H 'Accept: text/html' -L "$@"
    }
    page=$(visit "$WIKI" -w '\n%{url_effective}')
    form=$(grep -o 'action="[^"]*"' <<<"$page" | head -n 1 | sed 's/action="//;s/"$//;s/&amp;/\&/g')
    where=$(tail -n 1 <<<"$page" | sed -E 's#(https://[^/]*).*#\1#')
    visit "$where$form" --data-urlencode login=jane@fabrikam.example -o /dev/null
    COOKIE=$(awk '/wiki/ && $6 == "__Host-kerbgate" { print $6 "=" $7 }' "$jar")
    [ -n "$COOKIE" ] || { echo "bench: the sign-in at the emulator left no session cookie" >&2; exit 1; }
}

cpu() { cat /proc/"$1"/task/*/schedstat | awk '{ s += $1 } END { printf "%.0f", s }'; }
peak() { awk '/VmHWM/ { print $2 }' "/proc/$1/status"; }

# case proxy pid url: one round, one line: case proxy µs-per-request requests-per-second peak-KiB failed
round() {
    local before after done good failed flags=--h1
    [ "$1" = h2 ] && flags="-m 8"
    # h2load does not know that *.localhost is this machine.
    flags="$flags --connect-to=127.0.0.1:$(sed -E 's#.*:([0-9]+)/.*#\1#' <<<"$4")"
    before=$(cpu "$3")
    # shellcheck disable=SC2086 # flags are words
    taskset -c 1 h2load $flags -c 64 -t 1 -D "$SECONDS_EACH" -H "cookie: $COOKIE" "$4" >"$WORK/load" 2>&1 ||
        { tail -n 5 "$WORK/load" >&2; return 1; }
    after=$(cpu "$3")
    done=$(sed -n 's/^status codes: \([0-9]*\) 2xx.*/\1/p' "$WORK/load")
    good=${done:-0}
    failed=$(sed -n 's/^status codes: .* \([0-9]*\) 3xx, \([0-9]*\) 4xx, \([0-9]*\) 5xx/\1 \2 \3/p' "$WORK/load" |
        awk '{ print $1 + $2 + $3 }')
    if [ "$good" -eq 0 ] || [ "${failed:-1}" -ne 0 ]; then
        echo "bench: $1 $2: $good answers of 200, ${failed:-?} others" >&2
        tail -n 12 "$WORK/load" >&2
        return 1
    fi
    awk -v c="$1" -v p="$2" -v ns=$((after - before)) -v n="$good" -v s="$SECONDS_EACH" -v m="$(peak "$3")" \
        'BEGIN { printf "%s %s %.2f %.0f %d\n", c, p, ns / n / 1000, n / s, m }' >>"$WORK/rounds"
}

median() { sort -n | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }
of() { awk -v c="$1" -v p="$2" -v f="$3" '$1 == c && $2 == p { print $f }' "$WORK/rounds" | median; }

report() {
    local case proxy floor aim own ratio verdict missed= rows=
    printf '%-4s %-9s %10s %8s %9s\n' case proxy 'µs/request' req/s 'peak KiB'
    for case in $CASES; do
        for proxy in kerbgate nginx haproxy; do
            printf '%-4s %-9s %10s %8s %9s\n' "$case" "$proxy" "$(of "$case" $proxy 3)" \
                "$(of "$case" $proxy 4)" "$(of "$case" $proxy 5)"
        done
    done
    for case in $CASES; do
        floor=1.2 aim=0.9
        [ "$case" = h2 ] && floor=1.3
        own=$(of "$case" kerbgate 3)
        for proxy in nginx haproxy; do
            ratio=$(awk -v a="$own" -v b="$(of "$case" $proxy 3)" 'BEGIN { printf "%.2f", a / b }')
            verdict=
            if [ $proxy = nginx ]; then
                verdict=$(awk -v r="$ratio" -v f=$floor -v a=$aim 'BEGIN {
                    print (r <= a ? "aim met" : r <= f ? "floor met, aim missed" : "floor missed") }')
                [ "$verdict" != "floor missed" ] || missed=yes
                verdict="floor $floor, aim $aim: $verdict"
            fi
            echo "$case: CPU per request, Kerbgate to $proxy: $ratio  $verdict"
            rows="$rows${rows:+,}
    {\"case\": \"$case\", \"peer\": \"$proxy\", \"cpu_ratio\": $ratio, \"kerbgate_us\": $own, \"peer_us\": $(of "$case" $proxy 3), \"kerbgate_rate\": $(of "$case" kerbgate 4), \"peer_rate\": $(of "$case" $proxy 4), \"kerbgate_peak_kib\": $(of "$case" kerbgate 5), \"peer_peak_kib\": $(of "$case" $proxy 5)}"
        done
    done
    printf '{"rounds": %s, "seconds": %s, "cases": [%s\n]}\n' "$ROUNDS" "$SECONDS_EACH" "$rows" >"$OUT"
    [ -z "$STRICT" ] || [ -z "$missed" ]
}

certificate
start_nginx
start_haproxy
sign_in
taskset -apc 0 "$GATEWAY" >/dev/null
for pid in ${BENCH_BACKEND_PID:-}; do taskset -apc 1 "$pid" >/dev/null; done
CASES=${ONLY:-h1 h2}
PATH_1K="bytes?n=1024"
for port in "$NGINX" "$HAPROXY"; do
    curl -sk --retry 20 --retry-connrefused --retry-delay 1 -o /dev/null "https://127.0.0.1:$port/$PATH_1K"
done
for number in $(seq 0 "$ROUNDS"); do
    for case in $CASES; do
        round "$case" nginx "$NGINX_PID" "https://127.0.0.1:$NGINX/$PATH_1K"
        round "$case" haproxy "$HAPROXY_PID" "https://127.0.0.1:$HAPROXY/$PATH_1K"
        round "$case" kerbgate "$GATEWAY" "$WIKI$PATH_1K"
    done
    # The first is for warming up.
    [ "$number" -ne 0 ] || : >"$WORK/rounds"
done
report
