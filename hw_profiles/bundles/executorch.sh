#!/bin/sh
# Times the programs of this folder in ExecuTorch: sh run.sh
#
# It needs executor_runner (built with XNNPACK; beside this file, or where EXECUTOR_RUNNER says) and nothing
# else. Over adb: push the folder and the runner, run this there, pull samples.jsonl back into the folder.
# ROUNDS is how often each program is timed (5), its inputs are the runner's own.
set -eu
cd "$(dirname "$0")"
runner=${EXECUTOR_RUNNER:-./executor_runner}
rounds=${ROUNDS:-5}
if [ ! -x "$runner" ]; then
  echo "run.sh: there is no executor_runner here: say where with EXECUTOR_RUNNER" >&2
  exit 2
fi
threads=$(cat threads)
cpu=$(sed -n 's/^\(model name\|Hardware\)[^:]*: *//p' /proc/cpuinfo | head -n 1 | tr -d '"\\')
cores=$(grep -c '^processor' /proc/cpuinfo)
printf '{"machine": {"cpu_model": "%s", "cores": %s, "platform": "%s"}}\n' \
  "${cpu:-unknown}" "$cores" "$(uname -sm)" > samples.part
round=0
while [ "$round" -lt "$rounds" ]; do
  while read -r call file repeats; do
    took=$("$runner" --model_path="$file" --num_executions="$repeats" --cpu_threads="$threads" 2>&1 </dev/null |
      sed -n 's/.*Model executed successfully.* in \([0-9.]*\) ms.*/\1/p')
    if [ -z "$took" ]; then
      echo "run.sh: $file was not run by $runner" >&2
      exit 1
    fi
    printf '{"call": %s, "repeats": %s, "ms": [%s, %s]}\n' "$call" "$repeats" "$took" "$took" >> samples.part
  done < calls
  round=$((round + 1))
  echo "run.sh: round $round of $rounds" >&2
done
mv samples.part samples.jsonl
