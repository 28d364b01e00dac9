#!/usr/bin/env bash
# A private SLURM of two nodes on this machine, without systemd, for the tests beside this file.
#
#   cluster.sh missing [--accounting]       what is needed and not there, in one line; nothing if all is
#   cluster.sh up FOLDER [--accounting]     start it; everything is in FOLDER, which must be new
#   cluster.sh down FOLDER                  stop it, by the process ids that it wrote there
#
# Then: export SLURM_CONF=FOLDER/etc/slurm.conf PATH=FOLDER/bin:$PATH
set -euo pipefail
PATH=$PATH:/usr/sbin  # where daemons are

missing() {
    [ "$(id -u)" = 0 ] || { echo "SLURM's daemons need root"; return; }
    local binary needed="munged slurmctld slurmd sbatch srun scontrol squeue"
    [ "${1:-}" = --accounting ] && needed="$needed slurmdbd mariadbd sacct"
    for binary in $needed; do
        command -v "$binary" >/dev/null || { echo "SLURM's $binary is not installed"; return; }
    done
}

wait_for() {
    local tries
    for tries in $(seq 150); do "$@" >/dev/null 2>&1 && return; sleep .2; done
    echo "not there after 30 s: $*" >&2
    return 1
}

free_ports() {
    python3 -c "
import socket
sockets = [socket.socket() for _ in range($1)]
for one in sockets:
    one.bind(('127.0.0.1', 0))
print(*(one.getsockname()[1] for one in sockets))"
}

start_munge() {
    chown munge:munge "$FOLDER/munge"
    (umask 077; head -c 1024 /dev/urandom >"$FOLDER/munge/key"; chown munge:munge "$FOLDER/munge/key")
    runuser -u munge -- munged --key-file="$FOLDER/munge/key" --socket="$FOLDER/munge/socket" \
        --pid-file="$FOLDER/munge/munged.pid" --log-file="$FOLDER/munge/log" \
        --seed-file="$FOLDER/munge/seed" --num-threads=2
}

# Its partitions are those that the profile names. A job of `urgent` drives out the others.
# A requeued job waits until its credential has expired; cred_expire shortens these two minutes.
write_configuration() {
    cat >"$FOLDER/etc/slurm.conf" <<CONF
ClusterName=private
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$FOLDER/munge/socket,cred_expire=5
CredType=cred/munge
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmctldPort=$1
SlurmctldPidFile=$FOLDER/run/slurmctld.pid
SlurmctldLogFile=$FOLDER/log/slurmctld.log
StateSaveLocation=$FOLDER/state
SlurmdPidFile=$FOLDER/run/slurmd.%n.pid
SlurmdLogFile=$FOLDER/log/slurmd.%n.log
SlurmdSpoolDir=$FOLDER/spool.%n
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=1
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
MinJobAge=3600
KillWait=3
SlurmctldTimeout=30
SlurmdTimeout=30
JobRequeue=1
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
JobCompType=jobcomp/filetxt
JobCompLoc=$FOLDER/log/finished.txt
GresTypes=gpu
NodeName=n1 NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 Port=$2 CPUs=2 RealMemory=4000 Gres=gpu:pretended:2
NodeName=n2 NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 Port=$3 CPUs=2 RealMemory=4000 Gres=gpu:pretended:2
PartitionName=main Nodes=ALL Default=YES MaxTime=01:00:00 PriorityTier=1
PartitionName=gpu Nodes=ALL MaxTime=01:00:00 PriorityTier=1
PartitionName=urgent Nodes=ALL MaxTime=01:00:00 PriorityTier=2
CONF
    # files that are there stand for two cards a node
    printf 'NodeName=n[1-2] Name=gpu Type=pretended File=/dev/%s\n' null zero >"$FOLDER/etc/gres.conf"
    echo "CgroupPlugin=cgroup/v1" >"$FOLDER/etc/cgroup.conf"
    # Snakemake's jobs call srun without SLURM_CONF, and it would look for /etc/slurm
    printf '#!/bin/sh\nSLURM_CONF=%s exec %s "$@"\n' \
        "$FOLDER/etc/slurm.conf" "$(command -v srun)" >"$FOLDER/bin/srun"
    chmod 755 "$FOLDER/bin/srun"
}

start_accounting() {
    local sql="mariadb --no-defaults --protocol=socket -S $FOLDER/mysql/socket -u root"
    chown mysql:mysql "$FOLDER/mysql"
    mariadb-install-db --no-defaults --user=mysql --datadir="$FOLDER/mysql" --skip-test-db \
        --auth-root-authentication-method=normal >"$FOLDER/log/mariadb-install.log" 2>&1
    mariadbd --no-defaults --user=mysql --datadir="$FOLDER/mysql" --socket="$FOLDER/mysql/socket" \
        --pid-file="$FOLDER/mysql/mariadbd.pid" --bind-address=127.0.0.1 --port="$2" \
        --innodb-buffer-pool-size=128M --innodb-lock-wait-timeout=900 >"$FOLDER/log/mariadbd.log" 2>&1 &
    wait_for $sql -e "SELECT 1"
    $sql -e "CREATE DATABASE accounting; CREATE USER 'slurm'@'127.0.0.1' IDENTIFIED BY 'private';
        GRANT ALL ON accounting.* TO 'slurm'@'127.0.0.1';
        CREATE USER 'slurm'@'localhost' IDENTIFIED BY 'private';
        GRANT ALL ON accounting.* TO 'slurm'@'localhost';"
    cat >"$FOLDER/etc/slurmdbd.conf" <<CONF
AuthType=auth/munge
AuthInfo=socket=$FOLDER/munge/socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort=$1
CommunicationParameters=NoInAddrAny
SlurmUser=root
LogFile=$FOLDER/log/slurmdbd.log
PidFile=$FOLDER/run/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=$2
StorageUser=slurm
StoragePass=private
StorageLoc=accounting
CONF
    chmod 600 "$FOLDER/etc/slurmdbd.conf"
    cat >>"$FOLDER/etc/slurm.conf" <<CONF
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=$1
AccountingStoragePass=$FOLDER/munge/socket
AccountingStorageTRES=gres/gpu
AccountingStoreFlags=job_comment
CONF
    slurmdbd
    wait_for sacctmgr -n list cluster
    sacctmgr -i add cluster private >/dev/null
    sacctmgr -i add account research Cluster=private >/dev/null
    sacctmgr -i add user root Account=research >/dev/null
}

up() {
    mkdir -p "$FOLDER"/{bin,etc,log,run,state,munge,mysql,spool.n1,spool.n2}
    chmod 755 "$FOLDER" "$FOLDER"/*
    export SLURM_CONF=$FOLDER/etc/slurm.conf
    read -r -a ports <<<"$(free_ports 5)"
    start_munge
    write_configuration "${ports[@]:0:3}"
    [ "${1:-}" = --accounting ] && start_accounting "${ports[@]:3:2}"
    slurmctld
    slurmd -N n1
    slurmd -N n2
    wait_for bash -c '[ "$(sinfo -h -N -p main -o %t | grep -c "^idle$")" = 2 ]'
}

stop() {
    local file pid pids=()
    for file; do
        [ -s "$file" ] || continue
        pid=$(cat "$file")
        kill "$pid" 2>/dev/null && pids+=("$pid")
    done
    for pid in "${pids[@]}"; do
        wait_for bash -c "! kill -0 $pid" || kill -9 "$pid"
    done
}

down() {
    export SLURM_CONF=$FOLDER/etc/slurm.conf
    timeout 10 scancel --user=root >/dev/null 2>&1 && sleep 1
    stop "$FOLDER"/run/{slurmd.n1,slurmd.n2,slurmctld}.pid
    stop "$FOLDER"/run/slurmdbd.pid
    stop "$FOLDER"/mysql/mariadbd.pid "$FOLDER"/munge/munged.pid
    # a job that was driven out may leave a process that its daemon no longer knows
    local file pid
    for file in $(env -u SLURM_CONF grep -lsF "$FOLDER/" /proc/[0-9]*/environ || true); do
        pid=$(basename "$(dirname "$file")")
        [ "$pid" = $$ ] || [ "$pid" = $PPID ] || kill -9 "$pid" 2>/dev/null || true
    done
}

command=$1
FOLDER=${2:-}
case $command in
    missing) missing "${2:-}" ;;
    up | down) "$command" "${3:-}" ;;
    *) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
