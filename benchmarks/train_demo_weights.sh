#!/usr/bin/env bash
# Trains shipped weights again, from worlds alone, on a CPU with AMX; elsewhere set PRECISION=32 (slower, similar weights).
#   benchmarks/train_demo_weights.sh demo [FOLDER]        the whole stack, started from the weights named detection
#   benchmarks/train_demo_weights.sh detection [FOLDER]   objects alone, from nothing: LiDAR first, then both sensors
# One thread trains and one process loads. FOLDER is runs/demo_weights unless given.
set -euo pipefail
cd "$(dirname "$0")/.."
what=${1:-demo}
folder=${2:-runs/demo_weights}/$what
bevstack=.venv/bin/bevstack
# Large pages and memory that stays with the process: an eighth faster, the same numbers.
export GLIBC_TUNABLES=glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=1073741824:glibc.malloc.trim_threshold=2147483647
world() { [ -d "$folder/worlds/$1" ] || $bevstack sim make "${@:2}" "$folder/worlds/$1"; }
train() {
  $bevstack train experiment="$1" data.root="$folder/worlds/$2" data.val_root="$folder/worlds/held_out" \
    trainer.max_epochs=null trainer.validate_every_epochs=null trainer.threads=1 evaluate=false \
    trainer.precision="${PRECISION:-bf16}" trainer.channels_last=true run_root="$folder" "${@:3}"
}
case $what in
demo)
  world first --scenes 240 --keyframes 6 --seed 3 --occupancy
  world second --scenes 240 --keyframes 6 --seed 4 --occupancy
  world drives --scenes 60 --keyframes 20 --seed 5 --occupancy
  world held_out --scenes 20 --seed 9000 --occupancy
  # Perception: 85 minutes, then 39 on other towns with more weight on the map.
  train m3net_small first init_from=detection trainer.max_steps=3000 trainer.batch_size=2 trainer.ema_decay=0.995 \
    optim.optimizer.lr=0.0015
  train m3net_small second init_from="$folder/latest" trainer.max_steps=1250 trainer.batch_size=2 \
    trainer.ema_decay=0.995 optim.optimizer.lr=0.001 loss_weights.m3net.map.map=60 loss_weights.m3net.map.coarse=30 \
    loss_weights.m3net.map.dice=16
  # Language, motion and planning on perception as it is: 45 minutes; then planning alone, which now sees the
  # vehicle's own motion: 26 minutes.
  perception=$(readlink -f "$folder/latest")
  $bevstack cues make "$folder/worlds/drives" --refine estimates --checkpoint "$perception"
  $bevstack cues make "$folder/worlds/held_out" --refine estimates --checkpoint "$perception"
  $bevstack vocabulary make "$folder/worlds/drives" --out "$folder/vocabulary.npz"
  drive() {
    train drive_small drives trainer.batch_size=4 trainer.ema_decay=0.99 \
      model.behaviour.planning.vocabulary.weights="$folder/vocabulary.npz" "$@"
  }
  drive init_from="$perception" trainer.max_steps=900 model.behaviour.planning.ego_status=false
  planning=(init_from="$folder/latest" '~optim.lr_scale.language' \
    'optim.frozen=[encoders,fuser,backbone,heads,language,behaviour.motion]')
  drive "${planning[@]}" trainer.max_steps=400
  drive "${planning[@]}" trainer.max_steps=350 optim.optimizer.lr=0.0004
  ;;
detection)
  world train --scenes 160 --keyframes 8 --seed 1
  world held_out --scenes 20 --seed 9000
  train lidar_small train trainer.max_steps=3600 trainer.ema_decay=0.99 optim.optimizer.lr=0.003
  train fusion_small train trainer.max_steps=1200 trainer.ema_decay=0.99 init_from="$folder/latest"
  ;;
*)
  echo "$0: '$what' must be demo or detection" >&2
  exit 2
  ;;
esac
$bevstack weights pack "$folder/latest" "bevstack/weights/$what.safetensors" --half
$bevstack eval --checkpoint "$what" --data "$folder/worlds/held_out" --out "$folder/eval"
