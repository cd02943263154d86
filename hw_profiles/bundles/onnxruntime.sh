#!/bin/sh
# Times the programs of this folder in ONNX Runtime: sh run.sh
#
# It needs python3 with the packages onnxruntime and numpy (or the one that PYTHON says), and writes
# samples.jsonl. ROUNDS is how often each program is timed (5).
set -eu
cd "$(dirname "$0")"
exec "${PYTHON:-python3}" run.py "${ROUNDS:-5}"
