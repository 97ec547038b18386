#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Carries what gpu_check needs to a machine with a GPU that cannot build it: see README.md beside this.
set -euo pipefail

usage() {
  cat <<'END'
usage: bench/gpu/carry.sh pack FILE.tar.xz       where build/gpu was built (cmake --preset gpu)
       bench/gpu/carry.sh run COMMAND [ARG..]    where FILE was unpacked into a copy of the repository

pack  takes the programs, the gpu tests, CTest's files, and the libraries they link but for CUDA's and the system's own.
run   starts a command in the repository: makes the path under which it was built lead here, and finds CUDA's libraries in
      /usr/local/cuda or beside Python's packages.
END
}

fail() {
  printf 'carry: error: %s\n' "$*" >&2
  exit 1
}

readonly kBuild=build/gpu
readonly kOfCuda='^lib(cuda|cudnn|cublas|nccl|nvrtc|nvJitLink)'
readonly kOfSystem='^(linux-vdso|ld-linux|lib(c|m|dl|rt|pthread|stdc\+\+|gcc_s)\.so)'

programs() { ls $kBuild/bin/{gpu_check,train_cnn,distrun} $kBuild/tests/bin/*gpu_test; }

pack() {  # file
  local found program
  programs >/dev/null || fail "build it first: cmake --preset gpu && cmake --build --preset gpu"
  rm -rf $kBuild/lib
  mkdir -p $kBuild/lib
  for program in $(programs); do
    found=$(ldd "$program" | awk '$3 ~ /^\// {print $1, $3}' | grep -Ev "$kOfCuda|$kOfSystem" || true)
    while read -r name path; do
      [[ -z $name || -e $kBuild/lib/$name ]] || cp -L "$path" "$kBuild/lib/$name"
    done <<<"$found"
  done
  { pwd -P; git describe --always --dirty --abbrev=12 --exclude '*' 2>/dev/null || true; } >$kBuild/carried
  find $kBuild -name CTestTestfile.cmake -o -path "$kBuild/lib/*" | sort | tar -cJf "$1" -T - $kBuild/carried $(programs)
  ls -l "$1"
}

# Libraries that a program does not find here; cuBLASLt is not linked, the cuDNN backend loads it by its name.
missing() {
  local program loaded
  loaded=$(grep -aoh 'libcublasLt\.so\.[0-9]*' $kBuild/bin/train_cnn | sort -u | paste -sd:)
  {
    for program in $(programs); do ldd "$program"; done | awk '/not found/ {print $1}'
    LD_TRACE_LOADED_OBJECTS=1 LD_PRELOAD=$loaded $kBuild/bin/train_cnn 2>&1 | sed -n "s/.*object '\(.*\)' from LD_PRELOAD cannot.*/\1/p"
  } | sort -u
}

# Folders that hold a library which a program misses.
library_folders() {
  local packages name folder
  packages=$(python3 -c 'import sys; print("\n".join(p for p in sys.path if p.endswith("-packages")))' 2>/dev/null || true)
  for name in $(missing); do
    for folder in $(for p in $packages; do ls -d "$p"/nvidia/*/lib 2>/dev/null || true; done) /usr/local/cuda/lib64 /usr/local/cuda/lib; do
      if [[ -e $folder/$name ]]; then
        echo "$folder"
        break
      fi
    done
  done | sort -u
}

run() {
  local built absent
  [[ -e $kBuild/carried ]] || fail "$kBuild/carried is not here: unpack the file into the repository's root"
  { read -r built; read -r DIST_GIT_COMMIT || true; } <$kBuild/carried
  export DIST_GIT_COMMIT
  if [[ ! -e $built ]]; then
    mkdir -p "$(dirname "$built")"
    ln -s "$(pwd -P)" "$built"
  fi
  [[ $(cd "$built" && pwd -P) == $(pwd -P) ]] || fail "$built, where this was built, is something else here"
  LD_LIBRARY_PATH=$(library_folders | paste -sd:)${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
  export LD_LIBRARY_PATH
  absent=$(missing | paste -sd' ')
  [[ -z $absent ]] || fail "not found on this machine: $absent"
  exec "$@"
}

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
case ${1:-} in
  pack) [[ $# -eq 2 ]] || { usage >&2; exit 1; }; pack "$2" ;;
  run) [[ $# -ge 2 ]] || { usage >&2; exit 1; }; shift; run "$@" ;;
  -h | --help) usage ;;
  *) usage >&2; exit 1 ;;
esac
