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
  # That of the component libtorch is compiled by its examples.
  find . -name '*.h' ! -name libtorch.h | sort | while read -r header; do
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

# libdist/README.md as its reader follows it: the project file, the program, what it prints.
follow_page() {
  local page=$source_dir/libdist/README.md folder=$work/page both
  mkdir -p "$folder"
  awk '/^```cmake$/ { inside = 1; next } /^```$/ { if (inside) exit } inside' "$page" >"$folder/CMakeLists.txt"
  awk '/^```cpp$/ { inside = 1; next } /^```$/ { if (inside) exit } inside' "$page" >"$folder/main.cpp"
  cmake -S "$folder" -B "$folder/build" -DCMAKE_PREFIX_PATH="$prefix" -DCMAKE_CXX_COMPILER="$compiler" -DCMAKE_CXX_FLAGS="-Wall -Wextra -Werror"
  cmake --build "$folder/build"
  both=$("$prefix/bin/distrun" -n 2 -- "$folder/build/my_program" | sort)
  [[ $both == $'[0] -0.5\n[1] -0.5' ]] || fail "the program of libdist/README.md printed '$both'"
  grep -q 'prints -0.5 twice' "$page" || fail "libdist/README.md says something else"
}

# What a compiled program asks for: nothing of what libdist may be built with.
check_symbols() {
  local foreign
  "$compiler" -std=c++20 -O1 -I"$prefix/include" -I"$prefix/include/dist" -c "$work/program.cpp" -o "$work/program.o"
  foreign=$(nm -uC "$work/program.o" | grep -E '\b(MPI_|ompi_|nccl|cu[A-Z]|boost::|fmt::|at::|c10::|torch::|SSL_|EVP_)' || true)
  [[ -z $foreign ]] || fail "a program that includes <dist/dist.h> needs $foreign"
  local library
  library=$(find "$prefix" -name 'libdist.so*' -type f)
  if [[ -n $library ]]; then
    foreign=$(nm -DC --defined-only "$library" | grep -v 'dist::' || true)
    [[ -z $foreign ]] || fail "libdist.so shows foreign symbols: $foreign"
  fi
}

# expect_refusal FOLDER FIND_PACKAGE_ARGUMENTS MESSAGE: configuring fails, and says so.
expect_refusal() {
  local folder=$work/components/$1
  mkdir -p "$folder"
  printf 'cmake_minimum_required(VERSION 3.16)\nproject(consumer LANGUAGES CXX)\nfind_package(dist %s)\n' "$2" >"$folder/CMakeLists.txt"
  if cmake -S "$folder" -B "$folder/build" -DCMAKE_PREFIX_PATH="$4" -DCMAKE_CXX_COMPILER="$compiler" >"$folder/log" 2>&1; then
    fail "find_package(dist $2) was accepted"
  fi
  tr -s '\n ' ' ' <"$folder/log" | grep -qF "$3" || { cat "$folder/log"; fail "no message '$3'"; }
}

check_components() {
  rm -rf "$work/components"
  expect_refusal unknown "0.1 REQUIRED COMPONENTS pigeon" "no component 'pigeon'; components: libtorch" "$prefix"
  # An installation without LibTorch: the same without that targets file.
  cp -r "$prefix" "$work/components/bare"
  find "$work/components/bare" -name 'distLibtorchTargets*' -delete
  expect_refusal missing "0.1 REQUIRED COMPONENTS libtorch" "configure libdist with -DDIST_WITH_LIBTORCH=ON" "$work/components/bare"
}

# Programs of examples/ as projects of their own, warnings as errors.
build_example() {  # folder, further arguments of cmake
  local folder=$1
  shift
  cmake -S "$source_dir/examples/$folder" -B "$work/$folder" -DCMAKE_PREFIX_PATH="$prefix" -DCMAKE_CXX_COMPILER="$compiler" \
    -DCMAKE_BUILD_TYPE=None -DCMAKE_CXX_FLAGS="-O1 -Wall -Wextra -Werror" "$@" >"$work/$folder.log" 2>&1 || { cat "$work/$folder.log"; fail "$folder: cmake"; }
  cmake --build "$work/$folder" -j 2
}

# Every rank ends with the same weights; one process ends with those of two but for rounding.
expect_own_loop() {  # program
  local alone both
  alone=$("$1" 100 | awk '/sum of the weights/ { print $NF }')
  both=$("$prefix/bin/distrun" -n 2 -- "$1" 100 | awk '/sum of the weights/ { print $NF }' | sort -u)
  [[ $(wc -w <<<"$both") == 1 ]] || fail "own_loop: the ranks end with different weights: $both"
  awk -v a="$alone" -v b="$both" 'BEGIN { exit !(a != 0 && (a - b) ^ 2 < 1e-12) }' || fail "own_loop: $alone alone, $both on two ranks"
}

build_own_loop() {
  build_example own_loop
  expect_own_loop "$work/own_loop/own_loop"
}

# libdist as a part of somebody's build: FetchContent's SOURCE_DIR is add_subdirectory.
build_subdirectory() {
  local folder=$work/subdirectory targets=(own_loop) with_libtorch=OFF
  if [[ -n $(find "$prefix" -name 'distLibtorchTargets.cmake') ]]; then
    targets+=(mnist)
    with_libtorch=ON
  fi
  mkdir -p "$folder"
  cat >"$folder/CMakeLists.txt" <<END
cmake_minimum_required(VERSION 3.25)
project(parent LANGUAGES CXX)
include(FetchContent)
FetchContent_Declare(libdist SOURCE_DIR "$source_dir")
FetchContent_MakeAvailable(libdist)
add_subdirectory("$source_dir/examples/own_loop" own_loop)
if(TARGET dist::libtorch)
  add_subdirectory("$source_dir/examples/libtorch" libtorch)
endif()
END
  cmake -S "$folder" -B "$folder/build" -G Ninja -DCMAKE_CXX_COMPILER="$compiler" -DCMAKE_BUILD_TYPE=None -DDIST_WITH_MPI=OFF \
    -DDIST_WITH_LIBTORCH=$with_libtorch -DDIST_WITH_ONEDNN=OFF
  cmake --build "$folder/build" -j 2 --target "${targets[@]}"
  expect_own_loop "$(find "$folder/build" -name own_loop -type f)"
  if [[ $with_libtorch == ON ]]; then
    export OMP_NUM_THREADS=1
    expect_learning "$prefix/bin/distrun -n 2 -- $(find "$folder/build" -name mnist -type f) 3"
  fi
}

# The loss of the third epoch is well below that of the first.
expect_learning() {  # command
  local losses
  losses=$($1 | awk '/epoch 0/ { first += $NF } /epoch 2/ { last += $NF } END { print first, last }')
  awk -v losses="$losses" 'BEGIN { split(losses, l); exit !(l[1] > 0 && l[2] < 0.8 * l[1]) }' || fail "$1: the loss went $losses"
}

count_added_lines() {  # alone parallel
  diff <(grep -vE '^ *(//|$)' "$1") <(grep -vE '^ *(//|$)' "$2") | grep -c '^>' || true
}

build_libtorch() {
  local name added losses
  for name in mnist resnet18; do
    added=$(count_added_lines "$source_dir/examples/libtorch/${name}_alone.cpp" "$source_dir/examples/libtorch/$name.cpp")
    [[ $added -ge 1 && $added -le 5 ]] || fail "$name.cpp differs from ${name}_alone.cpp by $added lines"
  done
  build_example libtorch
  export OMP_NUM_THREADS=1
  for command in "$work/libtorch/mnist_alone 3" "$prefix/bin/distrun -n 2 -- $work/libtorch/mnist 3"; do
    expect_learning "$command"
  done
  for command in "$work/libtorch/resnet18_alone 1 32" "$prefix/bin/distrun -n 2 -- $work/libtorch/resnet18 1 64"; do
    losses=$($command)
    [[ $losses =~ epoch\ 0:\ 2\ batches,\ loss\ [0-9] ]] || fail "$command printed '$losses'"
  done
}

build_deb() {
  command -v dpkg-deb >/dev/null || { echo "SKIPPED: no dpkg-deb"; exit 77; }
  rm -rf "$work/deb"
  mkdir -p "$work/deb"
  (cd "$work/deb" && cpack --config "$build/CPackConfig.cmake" -G DEB -B "$work/deb" >log 2>&1) || { cat "$work/deb/log"; fail "cpack failed"; }
  local package
  package=$(find "$work/deb" -maxdepth 1 -name 'libdist-dev_0.1*.deb')
  [[ -n $package ]] || fail "cpack made no libdist-dev_0.1*.deb"
  dpkg-deb -f "$package" Depends | grep -q libc6 || fail "the package names no dependencies"
  dpkg-deb -x "$package" "$work/deb/root"
  cmake -S "$source_dir/tests/consumer/project" -B "$work/deb/build" -DCMAKE_PREFIX_PATH="$work/deb/root/usr" \
    -DCMAKE_CXX_COMPILER="$compiler" -DPROGRAM_SOURCE="$work/program.cpp"
  cmake --build "$work/deb/build"
  expect_output "$work/deb/build/program"
}

case $step in
  install) install_prefix ;;
  cmake) build_with_cmake ;;
  pkg_config) build_with_pkg_config ;;
  headers) check_headers ;;
  version) check_version ;;
  page) follow_page ;;
  symbols) check_symbols ;;
  components) check_components ;;
  own_loop) build_own_loop ;;
  subdirectory) build_subdirectory ;;
  libtorch) build_libtorch ;;
  deb) build_deb ;;
  *) fail "unknown step '$step'" ;;
esac
