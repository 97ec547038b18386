#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Stands in for train_cnn --backend cudnn in the tests of gpu_check: records with numbers that follow from the arguments
# alone. FAKE_FAULT makes it misbehave: unequal (replicas of 4 ranks), crash (vgg16), hang (everything that trains),
# sweeps (ring over tcp sweeps), drift (losses of 2 ranks depend on the transport), nan (losses), bent
# (losses in bf16), mute (no record).
set -euo pipefail

model='' strategy=ring backend=onednn precision=f32 transport=auto batch=0 steps=0 json='' profile='' describe=0
while [[ $# -gt 0 ]]; do
  case $1 in
    --describe) describe=1; shift; continue ;;
    --model) model=$2 ;;
    --strategy) strategy=$2 ;;
    --backend) backend=$2 ;;
    --precision) precision=$2 ;;
    --transport) transport=$2 ;;
    --batch) batch=$2 ;;
    --steps) steps=$2 ;;
    --json) json=$2 ;;
    --profile) profile=$2 ;;
    --warmup | --threads | --data | --learning-rate) ;;
    *) echo "fake_gpu_trainer: error: unknown argument '$1'" >&2; exit 1 ;;
  esac
  shift 2
done

fault=${FAKE_FAULT:-none}
if [[ $model == unknown ]]; then echo "model 'unknown' is unknown" >&2; exit 1; fi
if [[ $describe == 1 ]]; then
  cat >>"$json" <<END
{"record": "model", "model": "$model", "image": 224, "classes": 1000, "parameters": 1000000, "activation_elements": 30000000, "forward_flop": 8000000000, "train_flop": 24000000000, "nodes": [{"name": "conv1", "kind": "conv", "forward_flop": 8000000000, "backward_flop": 16000000000, "forward_elements": 20000000, "backward_elements": 40000000, "parameters": 900000}, {"name": "bn1", "kind": "batch_norm", "forward_flop": 0, "backward_flop": 0, "forward_elements": 30000000, "backward_elements": 50000000, "parameters": 100000}]}
END
  exit 0
fi

rank=${DIST_RANK:-0} ranks=${DIST_RANKS:-1}
if [[ $fault == hang ]]; then exec sleep 600; fi
if [[ $fault == crash && $model == vgg16 ]]; then echo "fake_gpu_trainer: error: out of memory" >&2; echo bye; exit 3; fi
if [[ $rank != 0 || $fault == mute ]]; then exit 0; fi
if [[ -n $profile ]]; then
  echo '{"record": "profile", "model": "'"$model"'", "image": 224, "batch": '"$batch"', "backend": "cudnn", "machine": "fake", "nodes": [{"name": "conv1", "forward_ms": 5, "backward_ms": 10}, {"name": "bn1", "forward_ms": 2, "backward_ms": 3}]}' >"$profile"
fi

equal=true loss=2.3
if [[ $fault == unequal && $ranks == 4 ]]; then equal=false; fi
if [[ $fault == drift && $ranks == 2 && $transport == tcp ]]; then loss=2.4; fi
if [[ $fault == bent && $precision == bf16 ]]; then loss=2.36; fi
if [[ $fault == nan ]]; then loss=null; fi
ran=staged
if [[ $strategy == ring ]]; then ran="staged ring"; fi
if [[ $strategy == ring && ($transport != tcp || $fault == sweeps) ]]; then ran="device sweep"; fi
awk -v model="$model" -v strategy="$strategy" -v backend="$backend" -v precision="$precision" -v transport="$transport" \
    -v n="$ranks" -v batch="$batch" -v steps="$steps" -v loss="$loss" -v equal="$equal" -v ran="$ran" 'BEGIN {
  rate["f32"] = 1000; rate["tf32"] = 2000; rate["bf16"] = 6000; rate["f16"] = 7000
  if (strategy == "none") rate["f16"] = 7035
  printf "{\"record\": \"train\", \"kind\": \"measured\", \"model\": \"%s\", \"strategy\": \"%s\", \"transport\": \"%s\", ", model, strategy, transport
  printf "\"backend\": \"%s\", \"precision\": \"%s\", \"device\": \"fake\", \"algorithm\": \"%s\", \"ranks\": %d, \"workers\": %d, ", backend, precision, ran, n, n
  printf "\"batch\": %d, \"image\": 224, \"steps\": %d, \"images_per_second\": %.6f, ", batch, steps, rate[precision]
  printf "\"step_ms_median\": %.6f, \"loss_first\": 2.5, \"loss_last\": %s, \"replicas_equal\": %s}\n", 1000 * batch / rate[precision], loss, equal
}' >>"$json"
