#!/usr/bin/env bash
# Trains the shipped weights again, from worlds alone: LiDAR first, then both sensors. About an hour and a half on a CPU
# with AMX, one thread to train and one process to load; elsewhere set PRECISION=32 (slower, similar weights).
#   benchmarks/train_demo_weights.sh [FOLDER]      (default: runs/demo_weights)
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:-runs/demo_weights}
bevstack=.venv/bin/bevstack
[ -d "$folder/worlds/train" ] || $bevstack sim make --scenes 160 --keyframes 8 --seed 1 "$folder/worlds/train"
[ -d "$folder/worlds/held_out" ] || $bevstack sim make --scenes 20 --seed 9000 "$folder/worlds/held_out"
data=(data.root="$folder/worlds/train" data.val_root="$folder/worlds/held_out" trainer.max_epochs=null
  trainer.validate_every_epochs=null trainer.ema_decay=0.99 trainer.threads=1 evaluate=false
  trainer.precision=${PRECISION:-bf16} trainer.channels_last=true)
$bevstack train experiment=lidar_small "${data[@]}" trainer.max_steps=3600 optim.optimizer.lr=0.003 run_root="$folder"
$bevstack train experiment=fusion_small "${data[@]}" trainer.max_steps=1200 init_from="$folder/latest" run_root="$folder"
$bevstack weights pack "$folder/latest" bevstack/weights/demo.safetensors --half
$bevstack eval --checkpoint demo --data "$folder/worlds/held_out" --modality all --out "$folder/eval"
