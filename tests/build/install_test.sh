#!/usr/bin/env bash
# Installs the build into a temporary folder and uses it from outside: find_package (shared and static) and
# pkg-config. Exit status 4: skipped, the last line says why.
set -euo pipefail
build=${HEADROOM_BUILD_DIR:?run through ctest}
consumer=$HEADROOM_SOURCE_DIR/tests/build/consumer
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cmake --install "$build" --prefix "$work/prefix" >/dev/null
prefix=$work/prefix
test -f "$prefix/include/headroom/headroom.h"
test -s "$prefix/share/doc/headroom/licences/xnnpack.txt"

# With the generator of the build: a machine may have no other build program.
generator=$(sed -n 's/^CMAKE_GENERATOR:INTERNAL=//p' "$build/CMakeCache.txt")
cmake -G "$generator" -S "$consumer" -B "$work/consumer" -DCMAKE_PREFIX_PATH="$prefix" >/dev/null
cmake --build "$work/consumer"
"$work/consumer/uses_shared"
"$work/consumer/uses_static"

command -v pkg-config >/dev/null || { echo "pkg-config is not installed"; exit 4; }
config=$(find "$prefix" -name headroom.pc)
# The file names the configured prefix; a moved package says so on the command line.
read -ra flags < <(PKG_CONFIG_PATH=$(dirname "$config") pkg-config --define-variable=prefix="$prefix" --cflags --libs headroom)
cc "$consumer/main.c" -o "$work/by_pkg_config" "${flags[@]}"
LD_LIBRARY_PATH=$(dirname "$(dirname "$config")") "$work/by_pkg_config"
