#!/usr/bin/env bash
# A real SLURM on this machine, for tests: munge, slurmctld and slurmd from Debian's packages, one
# node with two fake GPUs (null devices), partitions cpu, gpu, and urgent, whose jobs pre-empt the
# others. Wants root and a mounted /sys/fs/cgroup; needs no systemd and no accounting.
#   tests/cluster/slurm.sh start | stop | crash-node | start-node
# All of it lives in $SLURM_ROOT; /etc/slurm holds links to it, since jobs lose SLURM_CONF on their way.
set -euo pipefail

ROOT=${SLURM_ROOT:-/tmp/immunization-slurm}
HOST=$(hostname -s)
unset SLURM_CONF

die() { echo "$*" >&2; exit 1; }
# The process id of a daemon, where it runs.
running() {
    local pid
    [[ -s $ROOT/run/$1.pid ]] && pid=$(<"$ROOT/run/$1.pid") &&
        [[ -r /proc/$pid/comm && $(<"/proc/$pid/comm") == "$1" ]] && echo "$pid"
}
await() { # await SECONDS WHAT COMMAND...
    local end=$((SECONDS + $1)) what=$2
    shift 2
    until timeout 5 "$@" >/dev/null 2>&1; do
        ((SECONDS < end)) || { tail -n 20 "$ROOT"/log/*.log >&2; die "$what did not come up"; }
        sleep 0.1
    done
}

install_packages() {
    command -v munged slurmctld slurmd squeue >/dev/null && return
    command -v apt-get >/dev/null || die "munge and SLURM are not installed, nor is apt-get there"
    export DEBIAN_FRONTEND=noninteractive
    local wanted=(munge slurmctld slurmd slurm-client)
    apt-get install -y -q --no-install-recommends "${wanted[@]}" >/dev/null 2>&1 || {
        apt-get update -q >/dev/null
        apt-get install -y -q --no-install-recommends "${wanted[@]}" >/dev/null
    }
}

configure() {
    umask 022
    mkdir -p "$ROOT"/{etc,run,log,state,spool,dev}
    for n in 0 1; do
        [[ -e $ROOT/dev/gpu$n ]] || mknod "$ROOT/dev/gpu$n" c 1 3 2>/dev/null || touch "$ROOT/dev/gpu$n"
    done
    [[ -s $ROOT/etc/munge.key ]] || (umask 077; head -c 1024 /dev/urandom >"$ROOT/etc/munge.key")
    cat >"$ROOT/etc/slurm.conf" <<CONF
ClusterName=test
SlurmctldHost=$HOST(127.0.0.1)
SlurmctldPort=17817
SlurmdPort=17818
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# Requeued jobs may start once the credential of their last run has expired.
AuthInfo=socket=$ROOT/run/munge.sock,cred_expire=5
CredType=cred/munge
StateSaveLocation=$ROOT/state
SlurmdSpoolDir=$ROOT/spool
SlurmctldPidFile=$ROOT/run/slurmctld.pid
SlurmdPidFile=$ROOT/run/slurmd.pid
SlurmctldLogFile=$ROOT/log/slurmctld.log
SlurmdLogFile=$ROOT/log/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
# Memory is watched, and a step that takes more than its share is killed.
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
JobRequeue=0
KillWait=5
SlurmdTimeout=10
MessageTimeout=5
MinJobAge=3600
SchedulerParameters=sched_interval=2,bf_interval=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=500
SlurmdParameters=config_overrides
GresTypes=gpu
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=$HOST NodeAddr=127.0.0.1 CPUs=8 RealMemory=64000 Gres=gpu:fake:2 State=UNKNOWN
PartitionName=cpu Nodes=$HOST Default=YES MaxTime=INFINITE PriorityTier=1 GraceTime=10 State=UP
PartitionName=gpu Nodes=$HOST Default=NO MaxTime=INFINITE PriorityTier=1 GraceTime=10 State=UP
PartitionName=urgent Nodes=$HOST Default=NO MaxTime=INFINITE PriorityTier=10 PreemptMode=OFF State=UP
CONF
    echo "Name=gpu Type=fake File=$ROOT/dev/gpu[0-1]" >"$ROOT/etc/gres.conf"
    printf 'CgroupAutomount=no\nConstrainCores=no\nConstrainDevices=no\nConstrainRAMSpace=no\n' \
        >"$ROOT/etc/cgroup.conf"
    mkdir -p /etc/slurm
    for file in slurm.conf gres.conf cgroup.conf; do
        [[ -e /etc/slurm/$file && ! -L /etc/slurm/$file ]] &&
            die "/etc/slurm/$file is a real file: this machine has a SLURM of its own, left alone"
        ln -sfn "$ROOT/etc/$file" "/etc/slurm/$file"
    done
}

start_node() {
    running slurmd >/dev/null || slurmd
    await 60 "node $HOST" bash -c "sinfo -hN -n $HOST -o %T | grep -qxE 'idle|mixed|allocated'"
}

start() {
    [[ $(id -u) == 0 ]] || die "wants root"
    install_packages
    configure
    if ! running munged >/dev/null; then
        rm -f "$ROOT"/run/munge.sock*
        munged --key-file="$ROOT/etc/munge.key" --socket="$ROOT/run/munge.sock" \
            --pid-file="$ROOT/run/munged.pid" --log-file="$ROOT/log/munged.log" \
            --seed-file="$ROOT/run/munged.seed" --num-threads=2
        await 10 munged munge -n -S "$ROOT/run/munge.sock"
    fi
    running slurmctld >/dev/null || slurmctld
    await 30 slurmctld scontrol ping
    start_node
    sinfo -hN -p gpu -o '%N %T cpus=%c memory=%m gres=%G'
}

# The node goes as if its power were cut: no daemon, no jobs, no word to the controller.
crash_node() {
    local pid
    pid=$(running slurmd) || die "slurmd does not run"
    kill -9 "$pid"
    for step in $(pgrep -f '^slurmstepd'); do
        pkill -9 --session "$step" || true
        for child in $(pgrep -P "$step"); do
            kill -9 -- "-$child" 2>/dev/null || kill -9 "$child" 2>/dev/null || true
        done
        kill -9 "$step" 2>/dev/null || true
    done
}

stop() {
    local ids pid
    if running slurmctld >/dev/null && running slurmd >/dev/null; then
        ids=$(timeout 10 squeue -h -o %A | sort -u)
        [[ -n $ids ]] && timeout 10 scancel $ids
        for _ in {1..100}; do
            [[ -z $(timeout 10 squeue -h -o %A) ]] && break
            sleep 0.1
        done
    fi
    for daemon in slurmd slurmctld munged; do
        pid=$(running $daemon) || continue
        kill "$pid"
        for _ in {1..150}; do
            [[ -e /proc/$pid ]] || break
            sleep 0.1
        done
        [[ -e /proc/$pid ]] && kill -9 "$pid"
    done
    for file in slurm.conf gres.conf cgroup.conf; do
        [[ $(readlink "/etc/slurm/$file" 2>/dev/null) == "$ROOT/etc/$file" ]] && rm -f "/etc/slurm/$file"
    done
    rm -rf "$ROOT"
}

case ${1:-} in
    start) start ;;
    stop) stop ;;
    crash-node) crash_node ;;
    start-node) start_node ;;
    *) die "usage: $0 start | stop | crash-node | start-node" ;;
esac
