#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# One run on one GPU node, with Apptainer. Killed or out of time: submit it again, finished slides are kept.
#
#   apptainer build wsi_mil.sif docker-daemon://wsi_mil:latest
#   sbatch docker/slurm.sh /data/slides /data/labels.csv /scratch/$USER/run1
#
#SBATCH --job-name=wsi_mil
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=8
#SBATCH --mem=32G
#SBATCH --time=24:00:00
#SBATCH --output=%x-%j.log
#SBATCH --requeue
set -euo pipefail
slides=$1 labels=$2 run=$3
mkdir -p "$run" "${WEIGHTS:=$HOME/wsi_mil_weights}"
cat > "$run/job.yaml" <<YAML
run: $run
slides: {folder: $slides, labels: $labels}
tiles: {mpp: 0.5, size_px: 256}
encoder: {name: "timm:resnet18", precision: bf16, batch_size: 256}
execution: {workers: $SLURM_CPUS_PER_TASK, threads: $SLURM_CPUS_PER_TASK, device: cuda}
YAML
# exit code 3 means: finished, but some slides failed (outcomes.csv says which and why)
srun apptainer run --nv --bind "$slides,$(dirname "$labels"),$run,$WEIGHTS:/weights" wsi_mil.sif run "$run/job.yaml"
