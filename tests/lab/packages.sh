#!/usr/bin/env bash
# Installs what building and the lab need on Debian 12; quick when everything is there.
# With "bench": also the peers that `make bench` measures, and its load generators.
#
# Samba comes from bookworm-backports: Debian 12's own has neither functional level 2016 nor
# resource-based delegation. The source is derived from the machine's own configuration.
set -euo pipefail
cd "$(dirname "$0")/../.."
mkdir -p .lab/logs
LOG=.lab/logs/packages.log
: >"$LOG"

PACKAGES="gcc make pkg-config libkrb5-dev libclang-dev krb5-user ldap-utils apache2
    libapache2-mod-auth-gssapi iproute2 util-linux curl ca-certificates chromium chromium-driver
    pebble"
    python3-grpcio"
BACKPORTS="samba-ad-dc samba-ad-provision samba-dsdb-modules python3-samba ldb-tools"
BENCH="nginx haproxy libapache2-mod-auth-openidc nghttp2-client wrk"
[ "${1:-}" != bench ] || PACKAGES="$PACKAGES $BENCH"
SAMBA_AT_LEAST=2:4.20

say() { echo "$*" | tee -a "$LOG"; }

missing() {
    for package in "$@"; do
        case $(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true) in
        installed) ;;
        *) echo "$package" ;;
        esac
    done
}

samba_is_old() {
    local version
    version=$(dpkg-query -W -f='${Version}' samba-ad-dc 2>/dev/null) || return 1
    dpkg --compare-versions "$version" lt "$SAMBA_AT_LEAST"
}

apt_files() { find /etc/apt -maxdepth 2 \( -name '*.sources' -o -name '*.list' \) -type f; }

backports_are_configured() {
    [ -n "$(apt_files | xargs -r grep -hEs '^[^#]*bookworm-backports' || true)" ]
}

# One stanza (deb822) or one line of the main archive, with the suite changed.
add_backports() {
    local file
    for file in $(apt_files); do
        case $file in
        *.sources)
            awk 'BEGIN { RS = ""; ORS = "\n\n" }
                /\nSuites:[^\n]*[ \t]bookworm([ \t\n]|$)/ || /^Suites:[^\n]*[ \t]bookworm([ \t\n]|$)/ {
                    if ($0 ~ /(^|\n)Enabled:[ \t]*no/) next
                    sub(/Suites:[^\n]*/, "Suites: bookworm-backports"); print; exit }' "$file" \
                >/tmp/kerbgate-backports.$$
            set -- sources
            ;;
        *.list)
            sed -nE '/^deb[[:space:]]+(\[[^]]*\][[:space:]]+)?[^[:space:]]+[[:space:]]+bookworm[[:space:]]/{
                s/[[:space:]]bookworm[[:space:]]/ bookworm-backports /p;q}' "$file" >/tmp/kerbgate-backports.$$
            set -- list
            ;;
        esac
        if [ -s /tmp/kerbgate-backports.$$ ]; then
            install -m 0644 /tmp/kerbgate-backports.$$ "/etc/apt/sources.list.d/kerbgate-backports.$1"
            rm -f /tmp/kerbgate-backports.$$
            say "      added bookworm-backports, as $file names its archive"
            return 0
        fi
        rm -f /tmp/kerbgate-backports.$$
    done
    say "no apt source for bookworm found in /etc/apt: add bookworm-backports by hand"
    return 1
}

apt() {
    if ! DEBIAN_FRONTEND=noninteractive apt-get -o Acquire::Retries=3 "$@" >>"$LOG" 2>&1; then
        echo "apt-get $* failed; the end of $LOG:"
        tail -n 25 "$LOG" | sed 's/^/    /'
        return 1
    fi
}

# The lab starts its own servers; the packages' must not take the fixed ports meanwhile or at boot.
without_services() {
    local policy=/usr/sbin/policy-rc.d ours= status=0
    if [ ! -e $policy ]; then
        printf '#!/bin/sh\nexit 101\n' >$policy
        chmod 0755 $policy
        ours=yes
    fi
    "$@" || status=$?
    [ -z "$ours" ] || rm -f $policy
    return $status
}

no_start_at_boot() {
    [ -d /run/systemd/system ] || return 0
    for unit in "$@"; do
        systemctl disable --now "$unit" >>"$LOG" 2>&1 || true
    done
}

install_packages() {
    local wanted samba new
    wanted=$(missing $PACKAGES)
    samba=$(missing $BACKPORTS)
    if samba_is_old; then samba=$BACKPORTS; fi
    [ -n "$wanted$samba" ] || return 0
    if [ "$(id -u)" -ne 0 ]; then
        say "missing packages: $(echo $wanted $samba)"
        say "run as root, or install them by hand (Samba from bookworm-backports)"
        return 1
    fi
    if ! grep -q '^VERSION_CODENAME=bookworm' /etc/os-release; then
        say "this is not Debian 12; install by hand: $(echo $wanted $samba) (Samba 4.20 or newer)"
        return 1
    fi
    if [ -n "$samba" ] && ! backports_are_configured; then add_backports; fi
    new=$(for unit in apache2 samba-ad-dc nginx haproxy; do [ -z "$(missing $unit)" ] || echo $unit; done)
    say "      reading package lists"
    apt update
    if [ -n "$wanted" ]; then
        say "      installing $(echo "$wanted" | wc -w) packages and what they need"
        without_services apt install -y --no-install-recommends $wanted
    fi
    if [ -n "$samba" ]; then
        say "      installing Samba from bookworm-backports"
        without_services apt install -y --no-install-recommends -t bookworm-backports $samba
    fi
    no_start_at_boot $new
}

need_rust() {
    command -v cargo >/dev/null || PATH=$HOME/.cargo/bin:$PATH
    if ! command -v cargo >/dev/null; then
        say "cargo is missing: install Rust 1.95 or newer with rustup (https://rustup.rs), then run this again"
        return 1
    fi
    for tool in nextest deny; do
        cargo $tool --version >/dev/null 2>&1 && continue
        say "      building cargo-$tool (about three minutes, once)"
        if ! cargo install --locked cargo-$tool >>"$LOG" 2>&1; then
            echo "cargo install cargo-$tool failed; the end of $LOG:"
            tail -n 25 "$LOG" | sed 's/^/    /'
            return 1
        fi
    done
}

install_packages
need_rust
