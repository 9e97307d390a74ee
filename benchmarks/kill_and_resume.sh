#!/usr/bin/env bash
# A run of `mplus eval` that is killed (SIGKILL) and gone on with beside one that is not: their samples and tables are compared byte for byte.
#
#   bash benchmarks/kill_and_resume.sh DIR "7 20" narrativeqa --data FILE --limit 12 --systems mplus,memoryllm,bm25
#
# DIR gets both runs; "7 20": it is killed when it has stored so many samples.
set -euo pipefail
dir=$1 after=$2
shift 2
mkdir -p "$dir"
mplus eval "$@" --out "$dir/whole"
mplus eval "$@" --out "$dir/killed" &
running=$!
for count in $after; do
    until [ "$(cat "$dir/killed/samples.jsonl" 2>/dev/null | wc -l)" -ge "$count" ]; do
        kill -0 "$running" || { echo "the run ended before it had $count samples; name smaller numbers" >&2; exit 1; }
        sleep 0.1
    done
    kill -9 "$running"
    wait "$running" || true
    echo "killed after $(wc -l <"$dir/killed/samples.jsonl") samples"
    mplus eval "$@" --out "$dir/killed" --resume &
    running=$!
done
wait "$running"
for file in samples.jsonl table.md; do
    cmp "$dir/whole/$file" "$dir/killed/$file"
    echo "$file: identical, $(wc -l <"$dir/whole/$file") lines"
done
