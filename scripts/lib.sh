# shellcheck shell=bash
# Shared by all scripts: paths, messages, and how Debian packages get into .parts.
# Sourced, never run.

# The checkout, the working directory of every script.
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$ROOT" || exit

# All downloads go here, and nowhere else on the machine.
PARTS=${UNITRING_PARTS:-$ROOT/.parts}
DEBIAN=$PARTS/root

# Where cargo puts its output.
export TARGET=${CARGO_TARGET_DIR:-$ROOT/target}

say() { printf '== %s\n' "$*" >&2; }

# die WHAT COMMAND: exits with the problem and the command that fixes it.
die() {
    printf '\nerror: %s\n' "$1" >&2
    [ $# -lt 2 ] || printf '  mend it with:  %s\n' "$2" >&2
    exit 1
}

# need PROGRAM COMMAND: fails without a program that the scripts do not fetch; COMMAND installs it.
need() { command -v "$1" >/dev/null || die "$1 is not installed" "$2"; }

# as_root COMMAND: the command as this user must type it, with sudo if needed.
as_root() { if [ "$(id -u)" = 0 ]; then echo "$*"; else echo "sudo $*"; fi; }

# As root, apt's downloader drops its privileges and then cannot write into a checkout under /root.
apt_options() { [ "$(id -u)" != 0 ] || echo "-oAPT::Sandbox::User=root"; }

refresh_lists() {
    [ "$(id -u)" = 0 ] || die "the package lists of this machine are missing or old" \
        "sudo apt-get update"
    say "refreshing the package lists"
    apt-get update -q >"$PARTS/apt.log" 2>&1 || { sleep 10 && apt-get update -q >"$PARTS/apt.log" 2>&1; } ||
        die "apt-get update failed: $(tail -n 3 "$PARTS/apt.log")" "apt-get update"
}

# missing_packages NAME...: these packages and their dependencies, without those that are installed.
missing_packages() {
    apt-get -s install --no-install-recommends "$@" 2>"$PARTS/apt.log" | awk '/^Inst/ {print $2}'
}

# unpack_with_dependencies MEND NAME...: unpacks these Debian packages and all that they depend on and the machine
# lacks. If apt does not know them, the error shows MEND.
unpack_with_dependencies() {
    local mend=$1 names deb
    shift
    mapfile -t names < <(missing_packages "$@")
    # Missing lists know no package. Outdated ones name versions that the archive no longer has, and perhaps other
    # dependencies than those of the present version.
    if [ ${#names[@]} -eq 0 ] || ! download "${names[@]}"; then
        refresh_lists
        mapfile -t names < <(missing_packages "$@")
        [ ${#names[@]} -gt 0 ] || die "apt knows no way to get $*" "$mend"
        download "${names[@]}" || die "cannot download: $(tail -n 3 "$PARTS/apt.log")" "$mend"
    fi
    for deb in "$PARTS"/debs/*.deb; do dpkg -x "$deb" "$DEBIAN"; done
    rm -rf "$PARTS/debs"
}

# download_size NAME...: the size of the download of these Debian packages, in MB.
download_size() {
    { apt-get download --print-uris "$@" 2>/dev/null || true; } |
        awk '{ bytes += $3 } END { printf "%.0f MB\n", bytes / 1e6 }'
}

# download NAME...: downloads exactly these Debian packages into .parts/debs; false if the archive lacks one.
download() {
    rm -rf "$PARTS/debs" && mkdir -p "$PARTS/debs" "$DEBIAN"
    say "downloading $# Debian packages ($(download_size "$@")): $*"
    # shellcheck disable=SC2046 # one word, or none
    (cd "$PARTS/debs" && apt-get $(apt_options) download -q "$@" >"$PARTS/apt.log" 2>&1)
}

# Shared libraries of the unpacked packages, for LD_LIBRARY_PATH. PulseAudio's have a folder of their own.
debian_libraries() {
    local found=()
    for dir in "$DEBIAN"/usr/lib/*-linux-gnu{,/pulseaudio} "$DEBIAN"/lib/*-linux-gnu; do
        [ ! -d "$dir" ] || found+=("$dir")
    done
    (IFS=: && echo "${found[*]}")
}
