#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The laws of DESIGN.md that a compiler does not see, as tests: lint.sh CHECK. Prints every breach as
# file:line: what, and exits with 1 when there is one.
set -euo pipefail
export LC_ALL=C
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

readonly kCodeFolders=(libdist ps allreduce examples bench tests)
readonly kLibraryFolders=(libdist ps allreduce)
readonly kMostLines=500
readonly kUntested=tests/tidy/untested.txt

cpp_files() { find "$@" -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh' | sort; }
sources() { find "$@" -name '*.cpp' | sort; }
scripts() {
  find cmake tests bench .ci -name '*.sh' -type f
  find quickstart check .ci/run tests/bench/fake_train_cnn -type f 2>/dev/null || true
}

# Prints breaches from standard input after a headline; succeeds when there are none.
report() {  # headline
  local breaches
  breaches=$(cat)
  if [[ -z $breaches ]]; then return 0; fi
  printf '%s\n%s\n' "$1" "$breaches" >&2
  return 1
}

# Arrows point down: who may not include whom.
check_arrows() {
  {
    grep -rnE '#include "(ps|allreduce)/' libdist --include='*.h' --include='*.cpp' |
      grep -v '^libdist/dist\.cpp:' || true
    grep -rnE '#include "allreduce/' ps --include='*.h' --include='*.cpp' || true
    grep -rnE '#include "ps/' allreduce --include='*.h' --include='*.cpp' || true
    grep -rnE '#include "(examples|bench|tests)/' "${kLibraryFolders[@]}" --include='*.h' --include='*.cpp' || true
    grep -rnE '#include "(bench|tests)/' examples --include='*.h' --include='*.cpp' || true
    # What learns in an experiment is the trainers' network, behind one file.
    grep -rnE '#include "(examples|tests)/' bench --include='*.h' --include='*.cpp' |
      grep -vE '^bench/ps/learner\.cpp:[0-9]+:#include "examples/' || true
    # The transport knows no strategy, the wire no transport.
    grep -rnE '#include "libdist/(strategy|world|bucket/|dist)\.?h?' libdist/transport libdist/wire --include='*.h' --include='*.cpp' || true
    grep -rnE '#include "libdist/transport/' libdist/wire libdist/memory --include='*.h' --include='*.cpp' || true
  } | report "an include points up or across (see the arrows in DESIGN.md):"
}

check_getenv() {
  cpp_files "${kLibraryFolders[@]}" | grep -vx 'libdist/options\.cpp' |
    { xargs -r grep -nE '\b(secure_)?getenv\(|\benviron\b' || true; } |
    report "only libdist/options.cpp reads the environment:"
}

check_feature_macros() {
  cpp_files "${kLibraryFolders[@]}" |
    { xargs -r grep -nE '^[[:space:]]*#[[:space:]]*(if|ifdef|ifndef|elif).*\b(HAVE|WITH|USE|ENABLE)_|^[[:space:]]*#[[:space:]]*(if|ifdef|ifndef|elif).*DIST_(HAVE|WITH)' || true; } |
    report "a missing part is a file of its own (x_off.cpp), not a macro:"
}

check_public_headers() {
  cpp_files libdist | grep '\.h$' |
    { xargs -r grep -nE '#include [<"](mpi|nccl|boost/|fmt/|torch/|cuda)' || true; } |
    { grep -vE '^libdist/(transport/(mpi|tcp|rendezvous|shm)[a-z_]*|libtorch/[a-z_]*)\.h:' || true; } |
    report "headers of the library pull in no third party (implementation headers of a transport may):"
}

check_size() {
  cpp_files "${kCodeFolders[@]}" | while read -r file; do
    lines=$(wc -l <"$file")
    if [[ $lines -gt $kMostLines ]]; then echo "$file:$lines: more than $kMostLines lines"; fi
  done | report "a file holds one idea; split these:"
}

check_spdx() {
  {
    cpp_files "${kCodeFolders[@]}" | while read -r file; do
      if [[ $(head -n 1 "$file") != "// SPDX-License-Identifier: Apache-2.0" ]]; then echo "$file:1: no SPDX line"; fi
    done
    scripts | while read -r file; do
      if ! head -n 2 "$file" | grep -qx '# SPDX-License-Identifier: Apache-2.0'; then echo "$file:2: no SPDX line"; fi
    done
  } | report "every source begins with its licence:"
}

check_pragma_once() {
  cpp_files "${kCodeFolders[@]}" | grep '\.h$' | { xargs -r grep -L '^#pragma once$' || true; } |
    report "headers without #pragma once:"
}

check_todo() {
  { grep -rnE '\b(TODO|FIXME|XXX)\b' "${kCodeFolders[@]}" cmake --include='*.h' --include='*.cpp' --include='*.sh' \
      --include='CMakeLists.txt' --include='*.cmake' || true; } |
    { grep -v '^tests/tidy/lint\.sh:' || true; } |
    report "open ends belong into an issue:"
}

# libdist/wire/frame.cpp is tested by tests/libdist/wire/frame_test.cpp, or untested.txt says why not.
check_tests_exist() {
  {
    sources "${kLibraryFolders[@]}" bench | while read -r file; do
      test="tests/${file%.cpp}_test.cpp"
      listed=no
      if grep -qE "^$file: .+" "$kUntested"; then listed=yes; fi
      if [[ -f $test && $listed == yes ]]; then echo "$file: has a test now; strike it from $kUntested"; fi
      if [[ ! -f $test && $listed == no ]]; then echo "$file: no $test, and no reason in $kUntested"; fi
    done
    { grep -vE '^(#|$)' "$kUntested" || true; } | while IFS=: read -r file _; do
      if [[ ! -f $file ]]; then echo "$kUntested: $file is not there"; fi
    done
  } | report "every source of the library has its test:"
}

# Every *_test.cpp that a CMakeLists.txt below tests/ names, as a path from the root.
named_tests() {
  local lists name
  find tests -name CMakeLists.txt | while read -r lists; do
    { grep -oE '[A-Za-z0-9_./-]+_test\.cpp' "$lists" || true; } | while read -r name; do
      realpath -m --relative-to=. "$(dirname "$lists")/$name"
    done
  done
}

# A test that CMake does not know is switched off without a word.
check_tests_run() {
  local named
  named=$(named_tests)
  find tests -name '*_test.cpp' | sort | while read -r file; do
    if grep -qxF "$file" <<<"$named"; then continue; fi
    # Or by a foreach or a function that appends _test.cpp to a word of the folder's own list.
    lists=$(dirname "$file")/CMakeLists.txt
    if [[ -f $lists ]] && grep -q '}_test\.cpp' "$lists" && grep -qw "$(basename "$file" _test.cpp)" "$lists"; then continue; fi
    echo "$file: in no CMakeLists.txt"
  done | report "tests that never run:"
}

# The header list of cmake/install.cmake is what <dist/dist.h> really pulls in.
check_installed_headers() {
  local seen=" " queue=(libdist/dist.h) header
  while [[ ${#queue[@]} -gt 0 ]]; do
    header=${queue[0]}
    queue=("${queue[@]:1}")
    if [[ $seen == *" $header "* ]]; then continue; fi
    seen+="$header "
    mapfile -t -O "${#queue[@]}" queue < <(sed -n 's/^#include "\(.*\)"/\1/p' "$header")
  done
  {
    for header in $seen; do
      grep -qwF "$header" cmake/install.cmake || echo "cmake/install.cmake: $header is not installed, but <dist/dist.h> needs it"
    done
    # `grep` takes only the list itself: from its set( to the closing parenthesis.
    sed -n '/^set(DIST_PUBLIC_HEADERS/,/)/p' cmake/install.cmake | { grep -oE '[a-z/_]+\.h' || true; } | while read -r header; do
      [[ $seen == *" $header "* ]] || echo "cmake/install.cmake: $header is installed, but <dist/dist.h> does not need it"
    done
  } | report "the public headers:"
}

case ${1:-} in
  arrows | getenv | feature_macros | public_headers | size | spdx | pragma_once | todo | tests_exist | tests_run | installed_headers)
    "check_$1"
    echo "$1: clean"
    ;;
  *)
    echo "usage: tests/tidy/lint.sh arrows|getenv|feature_macros|public_headers|size|spdx|pragma_once|todo|tests_exist|tests_run|installed_headers" >&2
    exit 1
    ;;
esac
