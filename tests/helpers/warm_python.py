"""A `python` for tests of the engines that has torch loaded: to import it takes four seconds, dozens of times a study.
In the folder `engines` beside it are a `dvc` that is loaded, too, and a `snakemake` that finds DVC loaded: a second
each time.

    with warm_python() as folder:            # a folder with a `python`, to be the first of PATH
        subprocess.run(["dvc", "repro"], env=os.environ | {"PATH": f"{folder}:{path}"})

`python stages/X.py ...`, `python -m workflow.X ...`, `dvc` and `snakemake` are handed to a server, which forks a
process that loads everything of the project anew and runs it with the caller's folder, environment and files; it gets
the caller's signals and ends when the caller does, with all that it started. Every other command line is the plain
Python's. Snakemake looks where it is when it is loaded, so the new process loads it. test_kills.py runs the whole study
the plain way and compares every file with what was made this way; benchmarks/kills.py runs nothing else.
"""

from __future__ import annotations

import json
import os
import runpy
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# -S -E: a plain start, 20 ms. The stage's own variables reach it with the environment.
CLIENT = """#!{python} -SE
import os, sys
arguments = [*{first!r}, *sys.argv[1:]]
ours = {first!r} or arguments[:1] == ["-m"] and arguments[1].startswith(("workflow.", "dvc"))
if not ours and not (arguments and arguments[0].startswith("stages/") and os.path.exists(arguments[0])):
    os.execv({python!r}, [{python!r}, *arguments])
import json, signal, socket
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
told = [arguments, os.getcwd(), dict(os.environ), sorted(os.sched_getaffinity(0)), os.umask(0o022)]
os.umask(told[-1])
text = json.dumps(told).encode("utf-8", "surrogateescape")
socket.send_fds(server, [len(text).to_bytes(8, "big")], [0, 1, 2])
server.sendall(text)
pid = int(server.recv(32) or b"0")
for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGURG, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
    if signal.getsignal(signum) is not signal.SIG_IGN:
        signal.signal(signum, lambda signum, frame: os.kill(pid, signum))
code = server.recv(32)
code = int(code) if code else 1
if code < 0:
    signal.signal(-code, signal.SIG_DFL) if -code != signal.SIGKILL else None
    os.kill(os.getpid(), -code)
os._exit(code)
"""
LOADED = ("torch", "torch._dynamo", "pandas", "PIL.Image", "safetensors.torch", "sklearn.datasets", "yaml")
LOADED += ("pydantic", "matplotlib.pyplot")
LOADED += ("dvc.repo", "dvc.cli.parser", "dvc.repo.reproduce", "dvc.repo.status", "dvc.repo.stage", "dvc.stage.cache")


@contextmanager
def warm_python() -> Iterator[Path]:
    """The folder of a `python` whose server ends with the context."""
    folder = tempfile.mkdtemp(prefix="warm-")  # a TemporaryDirectory goes when a fork of this process ends, too
    owner = os.getpid()
    try:
        address = f"{folder}/server"
        Path(folder, "engines").mkdir()
        script = Path(sys.executable).parent / "snakemake"
        for name, first in {"python": [], "engines/dvc": ["-m", "dvc"], "engines/snakemake": [str(script)]}.items():
            (client := Path(folder) / name).write_text(
                CLIENT.format(python=sys.executable, address=address, first=first)
            )
            client.chmod(0o755)
        plain = os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
        server = subprocess.Popen([sys.executable, __file__, address], env=plain, stdin=subprocess.PIPE)
        try:
            end = time.monotonic() + 120
            while not os.path.exists(address):
                assert server.poll() is None and time.monotonic() < end, "the server of warm_python did not start"
                time.sleep(0.05)
            yield Path(folder)
        finally:
            if os.getpid() == owner:
                server.terminate()
                server.wait()
    finally:
        if os.getpid() == owner:
            shutil.rmtree(folder, ignore_errors=True)


def serve(address: str) -> None:
    """Fork a process for every connection, until stdin is closed or SIGTERM comes."""
    for name in LOADED:
        __import__(name)
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(f"{address}.new")
    listening.listen(64)
    os.rename(f"{address}.new", address)
    with selectors.DefaultSelector() as selector:
        selector.register(listening, selectors.EVENT_READ)
        selector.register(sys.stdin, selectors.EVENT_READ)
        while True:
            if any(key.fileobj is sys.stdin for key, _ in selector.select()):
                return
            connection, _ = listening.accept()
            if os.fork() == 0:
                listening.close()
                _attend(connection)
            connection.close()
            with suppress(ChildProcessError):  # those that have ended, so that their seconds count as this process's
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass


def _attend(connection: socket.socket) -> None:
    """Run what a client asks for, end it when the client ends, tell the client its code. Does not return."""
    size, files, *_ = socket.recv_fds(connection, 8, 3)
    text = b""
    while len(text) < int.from_bytes(size, "big"):
        text += connection.recv(1 << 20)
    arguments, folder, environment, cores, mask = json.loads(text.decode("utf-8", "surrogateescape"))
    if (pid := os.fork()) == 0:
        connection.close()
        for descriptor, file in enumerate(files):
            os.dup2(file, descriptor)
            os.close(file)
        os.setsid()
        os.sched_setaffinity(0, cores)
        os.umask(mask)
        _run(arguments, folder, environment)
    for file in files:
        os.close(file)
    connection.sendall(str(pid).encode())
    with selectors.DefaultSelector() as selector:
        selector.register(connection, selectors.EVENT_READ)
        selector.register(ended := os.pidfd_open(pid), selectors.EVENT_READ)
        if not any(key.fd == ended for key, _ in selector.select()):  # the client is gone
            os.killpg(pid, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with suppress(OSError):
        connection.sendall(str(code).encode())
    os._exit(0)


def _run(arguments: list[str], folder: str, environment: dict[str, str]) -> None:
    """As `python ARGUMENTS` there. Does not return."""
    code = 1
    try:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        module = arguments[1] if arguments[0] == "-m" else None
        sys.argv = [arguments[0], *arguments[1:]] if not module else [module, *arguments[2:]]
        sys.orig_argv = ["python", *arguments]
        first = folder if module else str(Path(arguments[0]).parent)
        sys.path[0:1] = [first, *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
        sys.modules.pop("sitecustomize", None)
        with suppress(ImportError):
            __import__("sitecustomize")
        if module:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(arguments[0], run_name="__main__")
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        with suppress(Exception):
            sys.stdout.flush()
        with suppress(Exception):
            sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve(sys.argv[1])
