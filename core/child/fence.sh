#!/bin/sh
# Nothing that runs between clone3 and execve may be able to allocate or to panic: no symbol of either may be
# undefined in the optimized object. Built without LTO: with it the object is bitcode, nm shows nothing, and nothing
# looks like success.
set -eu
cd "$(dirname "$0")/../.."
target=${CARGO_TARGET_DIR:-target}
CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_STRIP=none CARGO_PROFILE_RELEASE_CODEGEN_UNITS=1 \
    cargo build -q -p sampan-child --release --target-dir "$target/fence"
rlib=$target/fence/release/libsampan_child.rlib
symbols=$(nm "$rlib" 2>/dev/null || true)
echo "$symbols" | grep -q ' T .*sampan_child.*spawn' || { echo "fence: $rlib shows no spawn: is it bitcode?"; exit 1; }
bad=$(echo "$symbols" | grep -E ' U ' | grep -vE ' U (memcpy|memmove|memset|memcmp|bcmp|strlen)$' | grep -vE 'sampan_child' || true)
[ -z "$bad" ] || { echo "fence: code after clone3 could reach:"; echo "$bad"; exit 1; }
echo "fence: core/child reaches nothing but itself and mem*"
