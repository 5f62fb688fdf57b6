"""A real Slurm for tests: munged, slurmctld and three slurmd on this host, two of the nodes with a pretended GPU.

    with slurm_cluster.up() as cluster:
        cluster.out("squeue", "--noheader")

`python tests/helpers/slurm_cluster.py COMMAND ...` runs a command with it up (a shell, say) and takes it down again.

Debian's packages slurm-wlm and munge, installed here when this process may (root, apt-get, a reachable mirror); no
systemd, no cgroups. Every daemon is a child of this process, in the foreground, and ends with it, even by SIGKILL; only
jobs at work would then go on to their end.

The configuration must stand in /etc/slurm: Snakemake's Slurm plugin clears SLURM_CONF inside a job. A slurm.conf that
was not written here is never touched.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

PACKAGES = ("slurm-wlm", "munge")
DAEMONS = ("munged", "slurmctld", "slurmd")
ETC = Path("/etc/slurm")
OURS = "# written by tests/helpers/slurm_cluster.py\n"
NODES = {"gpu1": "Gres=gpu:1", "gpu2": "Gres=gpu:1", "cpu1": ""}

CONF = """
ClusterName=tests
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerParameters=batch_sched_delay=1,sched_interval=2,bf_interval=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
MpiDefault=none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=2
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/jobcomp.txt
MinJobAge=3600
KillWait=30
OverTimeLimit=0
ReturnToService=2
GresTypes=gpu
PartitionName=cpu Nodes=ALL Default=YES MaxTime=60 DefaultTime=10 PriorityTier=1 State=UP
PartitionName=gpu Nodes=gpu[1-2] MaxTime=60 DefaultTime=10 PriorityTier=1 State=UP
PartitionName=urgent Nodes=gpu[1-2] MaxTime=60 DefaultTime=10 PriorityTier=2 State=UP
"""


class Unavailable(Exception):
    """Slurm cannot run here; one line that says why and what would help."""


@dataclass
class Cluster:
    """The running cluster; its logs and the record of ended jobs are in `folder`."""

    folder: Path

    def out(self, *command: str) -> str:
        """What one of Slurm's commands prints; it must succeed."""
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout

    def jobs(self) -> list[dict[str, str]]:
        """Every job so far, oldest first, as `scontrol show job` prints it."""
        lines = self.out("scontrol", "--oneliner", "show", "jobs").splitlines()
        jobs = [dict(word.split("=", 1) for word in line.split() if "=" in word) for line in lines]
        return sorted((job for job in jobs if "JobId" in job), key=lambda job: int(job["JobId"]))


@contextmanager
def up() -> Iterator[Cluster]:
    """Bring a cluster up and take it down. Raises Unavailable."""
    with ExitStack() as stack:
        stack.enter_context(_alone())
        _install()
        folder = Path(tempfile.mkdtemp(prefix="longtail-slurm-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        folder.chmod(0o755)  # munge asks for it
        _configure(folder)
        for file in ("slurm.conf", "gres.conf"):
            stack.callback((ETC / file).unlink, missing_ok=True)
        cluster = Cluster(folder)
        munged = f"--force --key-file={folder}/munge.key --socket={folder}/munge.socket"
        munged += f" --pid-file={folder}/munged.pid --log-file={folder}/munged.log --seed-file={folder}/munged.seed"
        stack.enter_context(_daemon(folder, "munged", "--foreground", *munged.split()))
        _until(lambda: (folder / "munge.socket").exists(), folder, "munged")
        stack.enter_context(_daemon(folder, "slurmctld", "-D", "-c"))
        for node in NODES:
            stack.enter_context(_daemon(folder, "slurmd", "-D", "-c", "-N", node))
        _until(lambda: _idle() == len(NODES), folder, "idle nodes")
        stack.callback(_cancel_all, cluster)
        yield cluster


@contextmanager
def _alone() -> Iterator[None]:
    """One cluster at a time: there is one /etc/slurm, which the system's lock on it stands for."""
    if os.geteuid() != 0:
        raise Unavailable(f"a Slurm of its own needs root, and the Debian packages {' and '.join(PACKAGES)}")
    ETC.mkdir(exist_ok=True)
    folder = os.open(ETC, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise Unavailable("the Slurm of another test run is up on this host; wait for its end") from None
    finally:
        os.close(folder)


def _install() -> None:
    conf = ETC / "slurm.conf"
    if conf.exists() and OURS not in conf.read_text():
        raise Unavailable(f"{conf} is of a Slurm that the tests did not make; they leave it alone")
    if all(shutil.which(daemon) for daemon in DAEMONS):
        return
    needs = f"needs the Debian packages {' and '.join(PACKAGES)}"
    if not shutil.which("apt-get"):
        raise Unavailable(f"{needs}; there is no apt-get here")
    quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update"], ["install", "--yes", "--no-install-recommends", *PACKAGES]):
        told = {"capture_output": True, "text": True, "timeout": 300, "env": quiet}
        done = subprocess.run(["apt-get", "--quiet", "-o", "Acquire::Retries=1", *command], **told)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        raise Unavailable(f"{needs}, which apt-get could not install: {said}")


def _configure(folder: Path) -> None:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(len(NODES) + 1)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        port, *ports = [each.getsockname()[1] for each in sockets]
    (folder / "munge.key").write_bytes(os.urandom(128))
    (folder / "munge.key").chmod(0o400)
    conf = CONF.format(folder=folder, port=port)
    for (node, gres), node_port in zip(NODES.items(), ports, strict=True):
        (folder / "spool" / node).mkdir(parents=True)
        address = f"NodeHostname=localhost NodeAddr=127.0.0.1 Port={node_port}"
        conf += f"NodeName={node} {address} CPUs=2 RealMemory=8000 {gres} State=UNKNOWN\n"
    (folder / "state").mkdir()
    (ETC / "gres.conf").write_text(OURS + "NodeName=gpu[1-2] Name=gpu File=/dev/null\n")
    (ETC / "slurm.conf").write_text(OURS + conf)


@contextmanager
def _daemon(folder: Path, *command: str) -> Iterator[None]:
    """A daemon in the foreground, gone when this process is."""
    program = shutil.which(command[0]) or f"/usr/sbin/{command[0]}"
    with open(folder / f"{command[-1] if '-N' in command else command[0]}.out", "w") as out:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", program, *command[1:]], stdout=out, stderr=out, start_new_session=True
        )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _idle() -> int:
    sinfo = subprocess.run(["sinfo", "-h", "-N", "-p", "cpu", "-t", "idle", "-o", "%N"], capture_output=True, text=True)
    return len(sinfo.stdout.split())


def _cancel_all(cluster: Cluster) -> None:
    """No job may outlive its cluster: slurmstepd would."""
    cluster.out("scancel", "--signal=KILL", "--full", "--user=root")
    cluster.out("scancel", "--user=root")
    _until(lambda: not cluster.out("squeue", "--noheader"), cluster.folder, "end of the jobs")


def _until(condition, folder: Path, what: str, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            tails = "".join(f"\n{log.name}: {log.read_text()[-1000:]}" for log in sorted(folder.glob("*.log")))
            raise RuntimeError(f"Slurm of the tests: no {what} after {seconds:.0f} s{tails}")
        time.sleep(0.1)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # and take the cluster down
    try:
        with up():
            sys.exit(subprocess.run(sys.argv[1:] or ["bash"]).returncode)
    except Unavailable as reason:
        sys.exit(f"error: {reason}")
