#!/usr/bin/env bash
# slurm_lab.sh DIR CONTROLLER_PORT NODE1_PORT NODE2_PORT: a real Slurm on this machine, without systemd; all its state is
# in DIR. Says "ready" and runs until its standard input ends, which it also does when who started it is killed.
#
# Node n1, the partition "main", has two CPUs, and two GPUs that are nothing but names. A second one like it, which is
# only in the partition "pair", is for jobs of two nodes. Debian's packages: slurmctld slurmd slurm-client munge
set -euo pipefail
lab=$(realpath -m "${1:?DIR}") controller_port=${2:?CONTROLLER_PORT} node_ports=("${3:?NODE1_PORT}" "${4:?NODE2_PORT}")
host=$(hostname -s)
export SLURM_CONF=$lab/slurm.conf PATH=/usr/sbin:/sbin:$PATH

configuration() {
    cat <<CONF
ClusterName=lab
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$controller_port
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket=$lab/munge/socket,cred_expire=5
StateSaveLocation=$lab/state
SlurmdSpoolDir=$lab/spool.%n
SlurmctldPidFile=$lab/slurmctld.pid
SlurmdPidFile=$lab/slurmd.%n.pid
MailProg=/bin/true
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=1000
GresTypes=gpu
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,sched_min_interval=0,bf_interval=2,batch_sched_delay=0
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=5
MinJobAge=86400
MaxArraySize=100
JobRequeue=1
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/none
NodeName=DEFAULT CPUs=2 RealMemory=8000 Gres=gpu:2 State=UNKNOWN
NodeName=n1 NodeHostname=$host NodeAddr=127.0.0.1 Port=${node_ports[0]}
NodeName=n2 NodeHostname=$host NodeAddr=127.0.0.1 Port=${node_ports[1]}
PartitionName=DEFAULT MaxTime=INFINITE State=UP
PartitionName=main Nodes=n1 Default=YES
PartitionName=pair Nodes=n1,n2
CONF
}

# Every process of the lab, jobs and what they started too, has this SLURM_CONF in its environment.
processes() {
    grep -lzFx "SLURM_CONF=$SLURM_CONF" /proc/[0-9]*/environ 2>/dev/null | cut -d/ -f3 | grep -x '[0-9]*' || true
}

wait_until() {
    for _ in $(seq 600); do
        if "$@" >/dev/null 2>&1; then return; fi
        sleep 0.1
    done
    return 1
}

nodes_are_up() { [ "$(sinfo --noheader --partition=pair --states=idle --format=%D)" = 2 ]; }
no_job_is_left() { left=$(squeue --noheader) && [ -z "$left" ]; }
no_daemon_runs() { [ -z "$(jobs -pr)" ]; }

stop() {
    trap '' EXIT INT TERM HUP
    if [ -e "$lab/slurmctld.pid" ]; then
        scancel --user=root || true
        wait_until no_job_is_left || true
    fi
    kill $(jobs -p) 2>/dev/null || true
    wait_until no_daemon_runs || true
    for process in $(processes); do kill -KILL "$process" 2>/dev/null || true; done
}

start() {
    mkdir -p "$lab/munge" "$lab/state"
    (umask 077 && head -c 128 /dev/urandom >"$lab/munge/key")
    configuration >"$lab/slurm.conf"
    for gpu in 0 1; do mknod "$lab/gpu$gpu" c 1 3 || touch "$lab/gpu$gpu"; done # what /dev/null is, where containers may
    echo "Name=gpu File=$lab/gpu[0-1]" >"$lab/gres.conf"
    # --force: the folders of a test are closed to other users, which munged does not like.
    munged --foreground --force --key-file="$lab/munge/key" --socket="$lab/munge/socket" --pid-file="$lab/munge/pid" \
        --log-file="$lab/munge/log" --seed-file="$lab/munge/seed" >"$lab/munged.log" 2>&1 &
    wait_until test -S "$lab/munge/socket" || return 1
    slurmctld -D -f "$lab/slurm.conf" >"$lab/slurmctld.log" 2>&1 &
    slurmd -D -f "$lab/slurm.conf" -N n1 >"$lab/slurmd.n1.log" 2>&1 &
    slurmd -D -f "$lab/slurm.conf" -N n2 >"$lab/slurmd.n2.log" 2>&1 &
    wait_until nodes_are_up || return 1
}

umask 022
trap stop EXIT
trap 'exit 1' INT TERM HUP
if ! start; then
    tail --lines=20 "$lab"/*.log >&2
    exit 1
fi
echo ready
cat >/dev/null
