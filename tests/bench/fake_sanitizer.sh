#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Stands in for compute-sanitizer: runs the test, and finds errors where its name says so.
set -euo pipefail
while [[ ${1:-} == --* ]]; do shift 2; done
if [[ $* == *leaky* ]]; then exit 86; fi
exec "$@"
