#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A lint that finds nothing must be able to find something: plants one breach for each check of
# lint.sh into a copy of the tree and expects it to be named.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
cp -r libdist ps allreduce examples bench tests cmake CMakeLists.txt "$copy"
readonly kLicence='// SPDX-License-Identifier: Apache-2.0'
failures=0

# expect CHECK FILE TEXT: with TEXT in the new FILE, CHECK fails and names "planted".
expect() {
  local check=$1 file=$2 text=$3 output
  printf '%b' "$text" >"$copy/$file"
  if output=$("$copy/tests/tidy/lint.sh" "$check" 2>&1); then
    echo "lint.sh $check passed in spite of $file"
    failures=$((failures + 1))
  elif [[ $output != *planted* ]]; then
    echo "lint.sh $check failed without naming $file: $output"
    failures=$((failures + 1))
  fi
  rm "$copy/$file"
}

expect arrows libdist/planted.cpp "$kLicence\n#include \"ps/shard.h\"\n"
expect arrows ps/planted.h "$kLicence\n#include \"allreduce/ring_plan.h\"\n"
expect arrows allreduce/planted.h "$kLicence\n#include \"ps/shard.h\"\n"
expect arrows bench/planted.cpp "$kLicence\n#include \"examples/nn/graph.h\"\n"
expect arrows ps/planted.cpp "$kLicence\n#include \"examples/nn/graph.h\"\n"
expect arrows libdist/wire/planted.h "$kLicence\n#include \"libdist/transport/transport.h\"\n"
expect getenv ps/planted.cpp "$kLicence\nauto x = std::getenv(\"HOME\");\n"
expect feature_macros allreduce/planted.cpp "$kLicence\n#if DIST_HAVE_MPI\n"
expect feature_macros libdist/planted.cpp "$kLicence\n#ifdef USE_CUDA\n"
expect public_headers libdist/planted.h "$kLicence\n#include <mpi.h>\n"
expect public_headers libdist/planted.h "$kLicence\n#include <fmt/format.h>\n"
expect size bench/planted.cpp "$kLicence$(printf '\\n%.0s' {1..501})"
expect spdx examples/planted.cpp "int x;\n"
expect pragma_once libdist/planted.h "$kLicence\nint x;\n"
expect todo libdist/planted.cpp "$kLicence\n// TO""DO\n"
expect tests_exist libdist/planted.cpp "$kLicence\n"
expect tests_run tests/libdist/planted_test.cpp "$kLicence\n"
sed -i 's|^#include "libdist/types.h"|&\n#include "libdist/planted.h"|' "$copy/libdist/dist.h"
expect installed_headers libdist/planted.h "$kLicence\n"

if [[ $failures -gt 0 ]]; then exit 1; fi
echo "every check of lint.sh finds its breach"
