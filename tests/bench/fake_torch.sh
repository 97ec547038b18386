#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Stands in for python3 torch_peer.py in the tests of gpu_check. FAKE_TORCH: missing
# (there is no PyTorch), no_compiler (mode compile fails).
set -euo pipefail

if [[ ${FAKE_TORCH:-here} == missing ]]; then echo "ModuleNotFoundError: No module named 'torch'" >&2; exit 1; fi
mode=eager model='' precision='' batch=0 json=''
shift # the script
while [[ $# -gt 0 ]]; do
  case $1 in
    --probe) echo '{"record": "peer_probe", "torch": "2.11"}'; exit 0 ;;
    --mode) mode=$2 ;;
    --model) model=$2 ;;
    --precision) precision=$2 ;;
    --batch) batch=$2 ;;
    --json) json=$2 ;;
    --steps | --warmup) ;;
    *) echo "fake_torch: error: unknown argument '$1'" >&2; exit 2 ;;
  esac
  shift 2
done
if [[ ${FAKE_TORCH:-here} == no_compiler && $mode == compile ]]; then echo "no C compiler" >&2; exit 4; fi
rate=5000
if [[ $mode == compile ]]; then rate=5600; fi
echo '{"record": "peer", "library": "pytorch", "model": "'"$model"'", "mode": "'"$mode"'", "precision": "'"$precision"'", "batch": '"$batch"', "images_per_second": '"$rate"', "step_ms_median": 50, "loss_first": 7, "loss_last": 6.9}' >>"$json"
