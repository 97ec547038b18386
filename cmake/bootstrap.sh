#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs the Debian or Ubuntu packages that libdist is built with, and nothing that is there
# already: a second run calls no apt. ./quickstart and ./check start with it.
set -euo pipefail

readonly kCmakeMinimum=3.25

usage() {
  cat <<'END'
usage: cmake/bootstrap.sh [--format] [--tidy] [--torch] [--docs] [--list] [--help]

Installs with apt what building, testing and plotting need on Debian 12 or Ubuntu 24.04 (or newer).
  --format  clang-format 14 as well (./check)
  --tidy    clang-tidy 14 as well (./check --all)
  --torch   LibTorch as well, for the component libtorch (./check)
  --docs    Doxygen as well (./check --all)
  --list    only prints the packages that are missing, one a line; installs nothing
Exit code: 0 all is there, 1 something is missing and could not be installed.
END
}

say() { printf 'bootstrap: %s\n' "$*"; }
fail() {
  printf 'bootstrap: error: %s\n' "$*" >&2
  exit 1
}

# One requirement a line: package, and for a tool the command that may come from elsewhere.
requirements() {
  cat <<'END'
build-essential g++
cmake cmake
ninja-build ninja
ccache ccache
pkg-config pkg-config
libopenmpi-dev
openmpi-bin mpirun
libboost-dev
libfmt-dev
libssl-dev
catch2
libcli11-dev
nlohmann-json3-dev
libdnnl-dev
gnuplot-nox gnuplot
END
  if [[ $want_format == yes ]]; then echo "clang-format-14 clang-format-14"; fi
  if [[ $want_tidy == yes ]]; then echo "clang-tidy-14 clang-tidy-14"; fi
  if [[ $want_torch == yes ]]; then echo libtorch-dev; fi
  if [[ $want_docs == yes ]]; then echo "doxygen doxygen"; fi
}

cmake_is_new_enough() {
  local version
  version=$(cmake --version 2>/dev/null | sed -n '1s/[^0-9]*\([0-9.]*\).*/\1/p')
  [[ -n $version && $(printf '%s\n' "$kCmakeMinimum" "$version" | sort -V | head -n 1) == "$kCmakeMinimum" ]]
}

is_installed() {  # package [command]
  if [[ -n ${2:-} ]] && command -v "$2" >/dev/null; then
    [[ $2 != cmake ]] || cmake_is_new_enough
    return
  fi
  [[ $(dpkg-query -W -f='${Status}' "$1" 2>/dev/null) == "install ok installed" ]]
}

missing_packages() {
  local package tool
  while read -r package tool; do
    is_installed "$package" "$tool" || echo "$package"
  done < <(requirements)
}

# Sets `as_root` to what must stand before apt-get.
find_root() {
  as_root=()
  if [[ $(id -u) -eq 0 ]]; then return; fi
  command -v sudo >/dev/null ||
    fail "not root, and there is no sudo. Ask an administrator to run: apt-get install $*"
  if [[ -t 0 ]]; then
    say "asking for root rights through sudo"
    as_root=(sudo)
  elif sudo -n true 2>/dev/null; then
    as_root=(sudo -n)
  else
    fail "not root, and sudo wants a password but there is no terminal. Run first: sudo apt-get install $*"
  fi
}

install_packages() {
  command -v apt-get >/dev/null ||
    fail "no apt-get here: this script knows Debian and Ubuntu only. Install the likes of: $*"
  find_root "$@"
  say "installing: $*"
  local apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=120)
  "${apt[@]}" update ||
    say "apt-get update failed (no network, or a broken package source); trying to install all the same"
  "${apt[@]}" install -y --no-install-recommends "$@" ||
    fail "apt-get could not install: $* (see above; on Ubuntu the 'universe' component must be on)"
}

want_format=no
want_tidy=no
want_torch=no
want_docs=no
only_list=no
for argument in "$@"; do
  case $argument in
    --format) want_format=yes ;;
    --tidy) want_tidy=yes ;;
    --torch) want_torch=yes ;;
    --docs) want_docs=yes ;;
    --list) only_list=yes ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; fail "unknown argument '$argument'" ;;
  esac
done

mapfile -t missing < <(missing_packages)
if [[ $only_list == yes ]]; then
  if [[ ${#missing[@]} -gt 0 ]]; then printf '%s\n' "${missing[@]}"; fi
  exit 0
fi
if [[ ${#missing[@]} -eq 0 ]]; then
  say "all packages are installed"
  exit 0
fi
install_packages "${missing[@]}"
cmake_is_new_enough ||
  fail "this system's $(cmake --version 2>/dev/null | head -n 1) is too old: $kCmakeMinimum or newer is needed (Debian 12, Ubuntu 24.04)"
say "done: ${#missing[@]} packages installed"
