#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds the program of README.md against an installed libdist: consumer.sh STEP WORK_DIR BUILD_DIR COMPILER.
# Step `install` makes WORK_DIR/prefix, the others use it.
set -euo pipefail

step=$1 work=$2 build=$3 compiler=$4
source_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
prefix=$work/prefix

fail() {
  echo "consumer: $*" >&2
  exit 1
}

# One step each of plain gradients 0 and 1, momentum 0.9, ten steps: 0.1 x 20.69 below zero.
expect_output() {  # program
  local program=$1 alone both
  alone=$("$program")
  [[ $alone == "rank 0: 0" ]] || fail "alone it printed '$alone'"
  both=$("$prefix/bin/distrun" -n 2 -- "$program" | sort)
  [[ $both =~ ^"[0] rank 0: -2.069"[0-9]*$'\n'"[1] rank 1: -2.069"[0-9]*$ ]] || fail "two ranks printed '$both'"
  echo "$program: right alone and on two ranks"
}

install_prefix() {
  rm -rf "$work"
  mkdir -p "$work"
  cmake --install "$build" --prefix "$prefix" >"$work/install.log" || { cat "$work/install.log"; fail "cmake --install failed"; }
  for file in include/dist/dist.h include/dist/libdist/dist.h bin/distrun bin/train_cnn bin/scaling; do
    [[ -f $prefix/$file ]] || fail "$file was not installed"
  done
  # The program is the one people copy.
  awk '/^```cpp$/ { inside = 1; next } /^```$/ { if (inside) exit } inside' "$source_dir/README.md" >"$work/program.cpp"
  grep -q 'dist/dist.h' "$work/program.cpp" || fail "README.md has no program"
  "$prefix/bin/train_cnn" --help >/dev/null || fail "the installed train_cnn does not start"
}

build_with_cmake() {
  cmake -S "$source_dir/tests/consumer/project" -B "$work/cmake" -DCMAKE_PREFIX_PATH="$prefix" \
    -DCMAKE_CXX_COMPILER="$compiler" -DPROGRAM_SOURCE="$work/program.cpp" -DCMAKE_BUILD_TYPE=Release
  cmake --build "$work/cmake"
  expect_output "$work/cmake/program"
}

build_with_pkg_config() {
  PKG_CONFIG_PATH=$(dirname "$(find "$prefix" -name dist.pc)")
  export PKG_CONFIG_PATH
  [[ $(pkg-config --modversion dist) == 0.1.* ]] || fail "dist.pc has version $(pkg-config --modversion dist)"
  local cflags libs
  read -ra cflags <<<"$(pkg-config --cflags dist)"
  read -ra libs <<<"$(pkg-config --libs dist)"
  "$compiler" -std=c++20 -O2 "$work/program.cpp" "${cflags[@]}" "${libs[@]}" -o "$work/program"
  LD_LIBRARY_PATH=$(pkg-config --variable=libdir dist)
  export LD_LIBRARY_PATH
  expect_output "$work/program"
}

check_headers() {
  local include=(-I"$prefix/include" -I"$prefix/include/dist") header foreign
  cd "$prefix/include/dist"
  find . -name '*.h' | sort | while read -r header; do
    echo "#include \"$header\"" | "$compiler" -std=c++20 -fsyntax-only -Wall -Wextra -Wpedantic -Werror "${include[@]}" -I. -x c++ - ||
      fail "$header does not compile alone"
  done
  foreign=$(echo '#include <dist/dist.h>' | "$compiler" -std=c++20 -M "${include[@]}" -x c++ - |
    tr ' ' '\n' | grep -E '/(mpi|nccl|cuda|boost|fmt|torch|openssl|nlohmann|CLI)[^/]*(/|\.h)' || true)
  [[ -z $foreign ]] || fail "<dist/dist.h> pulls in $foreign"
  if echo '#include <dist/dist.h>' | "$compiler" -std=c++17 -fsyntax-only "${include[@]}" -x c++ - 2>"$work/old.log"; then
    fail "C++17 was accepted"
  fi
  grep -q 'libdist needs C++20' "$work/old.log" || fail "a C++17 program gets no clear message"
}

check_version() {
  local wanted
  for wanted in 0.2 1.0; do
    mkdir -p "$work/version"
    sed "s/find_package(dist 0.1/find_package(dist $wanted/" "$source_dir/tests/consumer/project/CMakeLists.txt" >"$work/version/CMakeLists.txt"
    if cmake -S "$work/version" -B "$work/version/build-$wanted" -DCMAKE_PREFIX_PATH="$prefix" \
      -DCMAKE_CXX_COMPILER="$compiler" -DPROGRAM_SOURCE="$work/program.cpp" >"$work/version/log" 2>&1; then
      fail "find_package(dist $wanted) accepted version 0.1"
    fi
    grep -q 'considered but not accepted' "$work/version/log" || { cat "$work/version/log"; fail "wrong message"; }
  done
}

case $step in
  install) install_prefix ;;
  cmake) build_with_cmake ;;
  pkg_config) build_with_pkg_config ;;
  headers) check_headers ;;
  version) check_version ;;
  *) fail "unknown step '$step'" ;;
esac
