"""`python -m MODULE ...` without its seconds of imports: a fork of a process that has done them.

`Process` asks the session's server, which is started by the first test that needs it and has
imported Snakemake and all stages. The server forks a child, which leads a session of its own, as a
call from a shell. A child that runs Snakemake has a server of its own, a fork in the same process
group: its jobs' `python` is `bin/python`, which calls this file and asks that server. So a signal
to the process group reaches the jobs, too.

Asked is by Unix sockets: arguments, folder and environment with the three standard files; answered
are the child's number, then its exit status and processor seconds. Whose asker is gone is killed.

Only the standard library's light modules are imported here: the jobs' `python` starts often.
"""

import json
import os
import signal
import socket
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SESSION = "GRCSF_TEST_SESSION"  # number of the process that ends last, pytest's first
JOBS = "WARM_JOBS"  # the address of a call's own server, for its jobs
CHUNK = 1 << 20
OURS = ("pipeline", "grcsf")
# what Snakemake, the workflow and the stages import
PRELOADED = ("snakemake.cli", "pipeline.cli", "pipeline.planning.preflight")
PRELOADED += ("pipeline.orchestration.call", "torch.utils.tensorboard")
PRELOADED += tuple(
    f"pipeline.{path.stem}" for path in ROOT.glob("pipeline/*.py") if path.stem[0] != "_"
)


def new_socket() -> socket.socket:
    return socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def ask(address, arguments, folder, environment, files) -> socket.socket:
    """The connection on which a server answers."""
    connection = new_socket()
    connection.connect(address)
    message = json.dumps([arguments, str(folder), dict(environment)])
    socket.send_fds(connection, [message.encode()], files)
    return connection


def answer(connection):
    message = connection.recv(CHUNK)
    if not message:
        raise RuntimeError("the warm server has ended")
    return json.loads(message)


# --- the jobs' python


def run_job(arguments: list[str]) -> None:
    """Have a stage run by the call's server, and end as it ends."""
    if arguments[:2] != ["-m", "pipeline"]:
        python = os.environ["WARM_PYTHON"]
        os.execv(python, [python, *arguments])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the stage gets it as well, and ends
    connection = ask(f"\0{os.environ[JOBS]}", arguments, os.getcwd(), os.environ, [0, 1, 2])
    answer(connection)
    code = os.waitstatus_to_exitcode(answer(connection)[0])
    sys.exit(code if code >= 0 else 128 - code)  # of a signal as a shell tells it


# --- the tests' side


def server() -> str:
    """Address of the session's server, which is started when nobody has."""
    import subprocess

    owner = os.environ[SESSION]
    address = f"\0grcsf-tests-{owner}"
    with new_socket() as listener:
        try:
            listener.bind(address)
        except OSError:  # somebody has
            return address
        listener.listen()
        number = str(listener.fileno())
        threads = {"OMP_NUM_THREADS": "1", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "1"}
        subprocess.Popen(
            [sys.executable, __file__, "--serve", number, owner],
            env={**os.environ, **threads},
            stdin=subprocess.DEVNULL,
            pass_fds=[listener.fileno()],
            start_new_session=True,
        )
    return address


class Process:
    """A call of `python`, with the part of `subprocess.Popen` that tests use."""

    def __init__(self, arguments: list[str], folder: Path, environment: dict[str, str]) -> None:
        reading, writing = os.pipe()
        self.stdout = open(reading, encoding="utf-8")
        try:
            with open(os.devnull) as nothing:
                files = [nothing.fileno(), writing, writing]
                self.connection = ask(server(), arguments, folder, environment, files)
        finally:
            os.close(writing)
        self.pid = answer(self.connection)
        self.returncode: int | None = None
        self.seconds = 0.0  # of the processor, with all processes that were waited for

    def wait(self) -> int:
        if self.returncode is None:
            status, self.seconds = answer(self.connection)
            self.returncode = os.waitstatus_to_exitcode(status)
            self.connection.close()
        return self.returncode

    def communicate(self) -> str:
        """All that is still said, when it has ended."""
        output = self.stdout.read()
        self.wait()
        return output

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)


def processor_seconds() -> float:
    """What the session's server and its calls have used; 0 without one."""
    with new_socket() as connection:
        try:
            connection.connect(f"\0grcsf-tests-{os.environ[SESSION]}")
        except ConnectionRefusedError:
            return 0.0
        connection.send(b"seconds")
        return answer(connection)


# --- the server


def serve(listener: socket.socket, owner: int, farewell):
    """Fork a child for each call, until the process behind `owner` and all children have ended.

    Returns in a child, with its call and connection. `farewell` kills one whose asker is gone.
    """
    from multiprocessing.connection import wait

    woken, waking = socket.socketpair()
    waking.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(waking.fileno())
    calls: dict[socket.socket, int] = {}  # the child's number, 0 as long as nothing was asked
    owned = True
    while owned or calls:
        for ready in wait([listener, woken, *calls, *([owner] if owned else [])]):
            if ready is listener:
                calls[listener.accept()[0]] = 0
            elif ready is woken:
                woken.recv(CHUNK)
                bury(calls)
            elif ready == owner:
                owned = False
            elif ready in calls:
                message, files, *_ = socket.recv_fds(ready, CHUNK, 3)
                if message == b"seconds":
                    ready.send(json.dumps(sum(map(sum, used()))).encode())
                elif message and (number := os.fork()):
                    calls[ready] = number
                elif message:
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    for other in {listener, woken, waking, *calls} - {ready}:
                        other.close()
                    return ready, files, *json.loads(message)
                elif number := calls.pop(ready):
                    farewell(number, signal.SIGKILL)
                for file in files:
                    os.close(file)
    os._exit(0)


def used():
    import resource

    for whom in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        yield resource.getrusage(whom)[:2]


def bury(calls: dict[socket.socket, int]) -> None:
    """Tell how children have ended, and take leave of those that others left behind."""
    while True:
        try:
            number, status, usage = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not number:
            return
        for connection in [one for one in calls if calls[one] == number]:
            del calls[connection]
            connection.send(json.dumps([status, sum(usage[:2])]).encode())
            connection.close()


def run(files, arguments, folder, environment) -> None:
    """What `python` does with these arguments, from its start to its end."""
    import atexit
    import runpy
    import threading

    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    given = [path for path in environment.get("PYTHONPATH", "").split(":") if path]
    checkout = next((path for path in given if Path(path, "pipeline").is_dir()), str(ROOT))
    sys.path[:0] = [folder, *given]
    for name in list(sys.modules):
        package = name.partition(".")[0]
        if package == "sitecustomize" or (checkout != str(ROOT) and package in OURS):
            del sys.modules[name]
    flag, module, *sys.argv[1:] = arguments
    assert flag == "-m"
    code: object = 0
    try:
        if any(Path(path, "sitecustomize.py").is_file() for path in given):
            import sitecustomize  # noqa: F401
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    if not isinstance(code, int | None):
        print(code, file=sys.stderr)
        code = 1
    # as the interpreter, which then would spend a second on forgetting every module
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    os._exit(code or 0)


def lead(connection, files, arguments, folder, environment):
    """Become the leader of a session, with a server for the jobs; returns in it and in each job."""
    os.setsid()
    connection.send(json.dumps(os.getpid()).encode())
    connection.close()
    name = f"grcsf-jobs-{os.getpid()}"
    with new_socket() as jobs:
        jobs.bind(f"\0{name}")
        jobs.listen()
        leader = os.pidfd_open(os.getpid())
        if os.fork():
            environment |= {JOBS: name, "WARM_PYTHON": sys.executable}
            sys.executable = str(Path(__file__).parent / "bin" / "python")
            return files, arguments, folder, environment
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        nothing = os.open(os.devnull, os.O_RDWR)
        for number in range(3):
            os.dup2(nothing, number)
        for file in files:  # which its asker reads until nobody has them
            os.close(file)
        connection, *call = serve(jobs, leader, os.kill)
    connection.send(json.dumps(os.getpid()).encode())
    connection.close()
    Path("/proc/self/comm").write_text(call[1][2])  # so that tests find it
    return call


def main() -> None:
    """Serve a session until pytest has ended."""
    import ctypes
    import gc
    import importlib

    _, _, number, owner = sys.argv
    sys.path[0] = str(ROOT)
    for module in PRELOADED:
        importlib.import_module(module)
    del sys.path[0]
    gc.freeze()  # or the first collection of each child copies all that was imported
    # what a killed call leaves behind is buried here, and counted
    ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER
    with socket.socket(fileno=int(number)) as listener:
        call = serve(listener, os.pidfd_open(int(owner)), os.killpg)
    run(*lead(*call))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        main()
    else:
        run_job(sys.argv[1:])
