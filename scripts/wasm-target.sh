# shellcheck shell=bash
# Two ways to compile for wasm32-wasip1, behind one command: `cargo_wasm SUBCOMMAND …`.
# Sourced, after lib.sh.

# A description of the way, cargo's output folder, and the environment and flags for the compiler.
export WASM_WAY=""
WASM_OUTPUT=$TARGET
WASM_ENVIRONMENT=()
WASM_FLAGS=()

# A compiler, the source of its standard library and a C library for WASI; apt adds their dependencies.
WASM_PACKAGES=(rustc-web rust-web-src wasi-libc)

# Chooses the way, and fetches what it needs.
wasm_target() {
    need cargo "curl -sSf https://sh.rustup.rs | sh   # or: $(as_root apt-get install -y rustup)"
    if [ -z "${UNITRING_WASM_FALLBACK:-}" ] && from_rustup; then
        WASM_WAY="standard library from rustup"
    else
        from_debian
        WASM_WAY="standard library built by Debian's compiler"
    fi
}

from_rustup() {
    # A compiler from another source may have the library, too: look for the library, not for rustup.
    local library
    library=$(rustc --print sysroot)/lib/rustlib/wasm32-wasip1
    [ ! -d "$library" ] || return 0
    command -v rustup >/dev/null || return 1
    say "adding the target wasm32-wasip1"
    timeout 300 rustup target add wasm32-wasip1 >&2 || {
        say "rustup could not add it: taking Debian's compiler instead"
        return 1
    }
}

from_debian() {
    local rustc=$PARTS/bin/rustc-wasm linker
    need apt-get "rustup target add wasm32-wasip1"
    if [ ! -x "$rustc" ]; then
        unpack_with_dependencies "rustup target add wasm32-wasip1" "${WASM_PACKAGES[@]}"
        # The package links to its source by an absolute path, which does not exist here.
        local source
        source=$(find "$DEBIAN/usr/src" -maxdepth 1 -name 'rustc-*' | head -n 1)
        mkdir -p "$DEBIAN/usr/lib/rustlib/src" "${rustc%/*}"
        ln -sfn "$source" "$DEBIAN/usr/lib/rustlib/src/rust"
        printf '#!/bin/sh\nexport LD_LIBRARY_PATH="%s"\nexec "%s" "$@"\n' \
            "$(debian_libraries)" "$DEBIAN/usr/bin/rustc" >"$rustc"
        chmod +x "$rustc"
    fi
    "$rustc" --version >/dev/null || die "Debian's compiler does not start" "rm -rf $PARTS"
    # To build a standard library, cargo needs rust-lld or another lld that supports wasm.
    linker=$(find "$(rustc --print sysroot)/lib/rustlib" -name rust-lld -type f | head -n 1)
    [ -n "$linker" ] || linker=$(command -v wasm-ld || command -v wasm-ld-14) ||
        die "no linker for wasm" "$(as_root apt-get install -y lld)"
    # A separate output folder: the two compilers must not overwrite each other's output.
    WASM_OUTPUT=$TARGET/debian
    WASM_ENVIRONMENT=(
        RUSTC="$rustc" RUSTC_BOOTSTRAP=1
        CARGO_TARGET_DIR="$WASM_OUTPUT"
        CARGO_TARGET_WASM32_WASIP1_LINKER="$linker"
        CARGO_TARGET_WASM32_WASIP1_RUSTFLAGS="-L $DEBIAN/usr/lib/wasm32-wasi"
    )
    WASM_FLAGS=("-Zbuild-std=std,panic_abort")
}

# cargo_wasm SUBCOMMAND ARGUMENTS…: runs cargo for the wasm target.
cargo_wasm() {
    env "${WASM_ENVIRONMENT[@]}" cargo "$1" --target wasm32-wasip1 "${WASM_FLAGS[@]}" "${@:2}"
}
