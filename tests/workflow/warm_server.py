"""The servers of `warm`: they fork a child for each call, and tell how it ends."""

import atexit
import ctypes
import gc
import importlib
import json
import os
import resource
import runpy
import signal
import socket
import sys
import threading
import weakref
from contextlib import suppress
from multiprocessing.connection import wait
from pathlib import Path

from tests.workflow.warm import JOBS, LARGEST, PYTHON, ROOT, new_socket

OURS = ("pipeline", "grcsf")
# what Snakemake, the workflow and the stages import late
PRELOADED = ["snakemake.cli", "snakemake.report.html_reporter", "smart_open", "yte"]
PRELOADED += ["pipeline.cli", "pipeline.planning.preflight", "pipeline.orchestration.call"]
PRELOADED += ["pipeline.datasets.configured", "pipeline.datasets.phantoms.phantom"]
PRELOADED += ["torch.utils.tensorboard", "matplotlib.backends.backend_agg"]
PRELOADED += ["SimpleITK", "scipy.stats", "transformers.models.sam.modeling_sam"]
PRELOADED += ["grcsf.models.peers.trans_fuse"]


def serve(listener: socket.socket, owner: int, kill):
    """Fork a child for each call, until the process behind `owner` and all children have ended.

    Returns in the children only: the connection to the asker, the files, and what is asked for.
    """
    woken, waking = socket.socketpair()
    waking.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(waking.fileno())
    children: dict[socket.socket, int] = {}  # by connection; 0 before there is one
    owners = [owner]
    while owners or children:
        for ready in wait([listener, woken, *children, *owners]):
            if ready is listener:
                children[listener.accept()[0]] = 0
            elif ready is woken:
                woken.recv(LARGEST)
                reap(children)
            elif ready == owner:
                owners.clear()
            elif ready in children:
                message, files, *_ = socket.recv_fds(ready, LARGEST, 3)
                if message == b"seconds":
                    ready.send(json.dumps(own_seconds()).encode())
                elif message and (child := os.fork()):
                    children[ready] = child
                elif message:
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    for other in {listener, woken, waking, *children} - {ready}:
                        other.close()
                    return ready, files, *json.loads(message)
                elif child := children.pop(ready):
                    with suppress(ProcessLookupError):
                        kill(child, signal.SIGKILL)
                for file in files:
                    os.close(file)
    os._exit(0)


def own_seconds() -> float:
    both = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(sum(resource.getrusage(whose)[:2]) for whose in both)


def reap(children: dict[socket.socket, int]) -> None:
    """Answer for the children that have ended; others were left behind by one that was killed."""
    ended = 1
    while ended:
        try:
            ended, status, usage = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return
        for connection in [one for one, child in children.items() if ended and child == ended]:
            del children[connection]
            with connection, suppress(BrokenPipeError):
                connection.send(json.dumps([status, sum(usage[:2])]).encode())


def introduce(connection: socket.socket) -> None:
    with connection:
        connection.send(json.dumps(os.getpid()).encode())


def lead(connection, files, arguments, folder, environment):
    """Lead a process group; returns in the leader, and in each job that it is asked for."""
    os.setsid()
    introduce(connection)
    if "--cores" in arguments:
        return with_own_server(files, arguments, folder, environment)
    return files, arguments, folder, environment


def with_own_server(files, arguments, folder, environment):
    """Fork a server for the jobs of this call."""
    server = f"grcsf-jobs-{os.getpid()}"
    with new_socket() as listener:
        listener.bind(f"\0{server}")
        listener.listen()
        leader = os.pidfd_open(os.getpid())
        if os.fork():
            environment |= {JOBS: server, PYTHON: sys.executable}
            # the workflow puts its folder in front of the jobs' PATH
            sys.executable = str(Path(__file__).parent / "bin" / "python")
            return files, arguments, folder, environment
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        for file in files:  # which are read until nobody has them
            os.close(file)
        os.closerange(0, 3)
        for _ in range(3):
            os.open(os.devnull, os.O_RDWR)
        connection, files, *call = serve(listener, leader, os.kill)
    introduce(connection)
    Path("/proc/self/comm").write_text(call[0][2])  # the stage, so that tests find it
    return files, *call


def run(files, arguments, folder, environment) -> None:
    """What `python` does with these arguments, from its start to its end."""
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    # the server's own streams know whether its files, not these, can be rewound
    sys.stdout, sys.stderr = (os.fdopen(n, "w", 1, closefd=False) for n in (1, 2))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    import_as_from(folder, [path for path in environment.get("PYTHONPATH", "").split(":") if path])
    _, module, *sys.argv[1:] = arguments
    code = None
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    if isinstance(code, str):
        sys.stderr.write(f"{code}\n")
        code = 1
    # the interpreter's end, but that forgets every module first, for a second
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    os._exit(code or 0)


def import_as_from(folder: str, paths: list[str]) -> None:
    """Search as with this `PYTHONPATH`, and forget our modules if it leads to another checkout."""
    sys.path[:0] = [folder, *paths]
    checkout = next((path for path in paths if Path(path, "pipeline").is_dir()), str(ROOT))
    if checkout != str(ROOT):
        for name in [name for name in sys.modules if name.partition(".")[0] in OURS]:
            del sys.modules[name]
    if any(Path(path, "sitecustomize.py").is_file() for path in paths):
        sys.modules.pop("sitecustomize", None)
        import sitecustomize  # noqa: F401


def prepare() -> None:
    """Do what every child would have to do first."""
    stages = [path.stem for path in ROOT.glob("pipeline/[a-z]*.py")]
    for module in [*PRELOADED, *(f"pipeline.{stage}" for stage in stages)]:
        importlib.import_module(module)
    importlib.import_module("snakemake.cli").get_argument_parser()  # looks for plugins
    importlib.import_module("pipeline.orchestration.environment").loaded_packages()
    for finalizer in list(weakref.finalize._registry):  # torch's, which take time at every end
        finalizer.atexit = False
    del sys.path[0]  # this checkout, which a call does not know
    gc.freeze()  # or a child's first collection copies all of it


def main() -> None:
    """Serve a session of tests."""
    prepare()
    # what a killed child leaves behind comes here, and its processor seconds with it
    ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER
    _, number, owner = sys.argv
    with socket.socket(fileno=int(number)) as listener:
        call = serve(listener, os.pidfd_open(int(owner)), os.killpg)
    run(*lead(*call))


if __name__ == "__main__":
    main()
