#!/usr/bin/env bash
# The whole path in one script, small enough for two CPU cores: `make demo` runs it.
# With REALDATA=DIR it also builds and verifies the iBims-1 images that lie in DIR/ibims1.
set -euo pipefail

out=out/demo
rm -rf "$out"
export TOKENIZERS_PARALLELISM=false
run() { printf '\n$ %s\n' "$*"; "$@"; }

if [[ -n "${REALDATA:-}" ]]; then
    run vlm3data build jsonl --root "$REALDATA/ibims1" --out "$out/ibims1"
    run vlm3data verify "$out/ibims1"
fi

# A tiny model gets tiny pictures: taken with lenses of 60 to 70 degrees, brought to one focal length of 84 px
# (instead of 1000) and cropped to 96x64.
pictures=(--domains plaza --views 1 --width-px 128 --height-px 96 --size-jitter 0 --hfov-deg 60,70
          --focal 84 --wordings vlm3data/wordings/depth_short.yaml)
run vlm3data build synthetic --split train --limit 6000 --out "$out/plaza-train" "${pictures[@]}"
run vlm3data build synthetic --split test --limit 200 --out "$out/plaza-test" "${pictures[@]}"
run vlm3data verify "$out/plaza-test"
run vlm3data mix show mixtures/demo.yaml
run vlm3train init-tiny --out "$out/untrained" --shards "$out/plaza-train"
run vlm3train sft --model "$out/untrained" --mixture mixtures/demo.yaml --out "$out/trained" \
    --steps 1100 --batch-size 8 --lr 2e-3 --beta2 0.98 --max-grad-norm 1 --warmup-ratio 0.05 \
    --workers 1 --log-every 50
run vlm3train eval --model "$out/untrained" --model "$out/trained" --shards "$out/plaza-test" \
    --train-shards "$out/plaza-train" --max-new-tokens 12 --json "$out/eval.json"
