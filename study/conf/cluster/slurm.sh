#!/usr/bin/env bash
# A study on machines that Slurm lends: Ray runs on all of them for as long as the study does.
#
#   sbatch --nodes=4 --gpus-per-node=4 study/conf/cluster/slurm.sh --search dataset=folder dataset.root=/shared/faces storage.root=/shared/results
#
# Sent from the project's folder, which all machines see, with its .venv (`make .venv`), the faces and the results; what follows the script's
# name are arguments of study/run.py. Every trial that has ended is kept: after the time limit send it again with --resume STUDY.
#SBATCH --job-name=mul-dml
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --exclusive
#SBATCH --time=24:00:00
# Exclusive, since Ray takes a machine to be its own: it stops every other Ray of its user there when it ends.
set -euo pipefail
umask 077
cd "${SLURM_SUBMIT_DIR:?is set by sbatch: send this script with it}"
export PATH=$PWD/.venv/bin:$PATH

# The token without which Ray obeys nobody lies in the home folder, which the machines share.
export RAY_AUTH_MODE=token
[ -s ~/.ray/auth_token ] || ray get-auth-token --generate >/dev/null
# Another port for every job; the first machine is the head, and trains, too.
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export RAY_ADDRESS=$head:$((20000 + SLURM_JOB_ID % 10000))
# srun does not take this over from sbatch by itself, in some versions: all trials of a machine would share one CPU.
export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK
exec srun ray symmetric-run --address "$RAY_ADDRESS" --min-nodes "$SLURM_JOB_NUM_NODES" --num-cpus "$SLURM_CPUS_PER_TASK" \
    --disable-usage-stats -- python study/run.py cluster=existing "$@"
