# shellcheck shell=bash
# What every script shares: where things are, how they speak, how Debian packages get into .parts.
# Sourced, never run.

# The checkout; every script works from here.
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$ROOT" || exit

# Everything that is fetched lands here, and nowhere else on the machine.
PARTS=${UNITRING_PARTS:-$ROOT/.parts}
DEBIAN=$PARTS/root

# Where cargo puts its output.
export TARGET=${CARGO_TARGET_DIR:-$ROOT/target}

say() { printf '== %s\n' "$*" >&2; }

# die WHAT COMMAND: ends with what is wrong and the command that mends it.
die() {
    printf '\nerror: %s\n' "$1" >&2
    [ $# -lt 2 ] || printf '  mend it with:  %s\n' "$2" >&2
    exit 1
}

# need PROGRAM COMMAND: a program that we don't fetch ourselves.
need() { command -v "$1" >/dev/null || die "$1 is not installed" "$2"; }

# The command as this user must type it.
as_root() { if [ "$(id -u)" = 0 ]; then echo "$*"; else echo "sudo $*"; fi; }

# apt's own downloader drops its rights and then can't write into a checkout under /root.
apt_options() { [ "$(id -u)" != 0 ] || echo "-oAPT::Sandbox::User=root"; }

refresh_lists() {
    [ "$(id -u)" = 0 ] || die "the package lists of this machine are missing or old" \
        "sudo apt-get update"
    say "refreshing the package lists"
    apt-get update -q >"$PARTS/apt.log" 2>&1 ||
        die "apt-get update failed: $(tail -n 3 "$PARTS/apt.log")" "apt-get update"
}

# missing_packages NAME...: these and their dependencies, less what the machine has.
missing_packages() {
    apt-get -s install --no-install-recommends "$@" 2>"$PARTS/apt.log" | awk '/^Inst/ {print $2}'
}

# unpack_packages NAME...: exactly these Debian packages into .parts/root, without installing.
unpack_packages() {
    local debs=$PARTS/debs deb
    rm -rf "$debs" && mkdir -p "$debs" "$DEBIAN"
    say "downloading $# Debian packages: $*"
    # Old lists name versions that the archive no longer has.
    # shellcheck disable=SC2046 # one word, or none
    (cd "$debs" && apt-get $(apt_options) download -q "$@" >"$PARTS/apt.log" 2>&1) || {
        refresh_lists
        (cd "$debs" && apt-get $(apt_options) download -q "$@" >"$PARTS/apt.log" 2>&1) ||
            die "cannot download: $(tail -n 3 "$PARTS/apt.log")" "$(as_root apt-get install "$@")"
    }
    for deb in "$debs"/*.deb; do dpkg -x "$deb" "$DEBIAN"; done
    rm -rf "$debs"
}

# Shared libraries of the unpacked packages, for LD_LIBRARY_PATH.
debian_libraries() {
    local found=()
    for dir in "$DEBIAN"/usr/lib/*-linux-gnu "$DEBIAN"/lib/*-linux-gnu; do
        [ ! -d "$dir" ] || found+=("$dir")
    done
    (IFS=: && echo "${found[*]}")
}
