"""`python -m MODULE ...` without its seconds of imports: a fork of a process that has done them.

A session of tests has one server (`warm_server`), which has imported Snakemake and all stages.
`Process` has it fork a child, which leads a process group. Each child gets a server for its jobs, a
fork in the same group, so a signal to the group reaches the jobs: their `python` is `bin/python`,
which calls this file and asks that server.

A server is asked through a Unix socket, with arguments, folder, environment and the three standard
files. It answers with the child's number, and later with its exit status and processor seconds. It
kills a child whose asker is gone.

The top imports little, because `bin/python` starts often.
"""

import json
import os
import signal
import socket
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SESSION = "GRCSF_TEST_SESSION"  # the process that outlives all others of a session: pytest's first
JOBS, PYTHON = "WARM_JOBS", "WARM_PYTHON"  # what `bin/python` asks, and what it stands in for
LARGEST = 1 << 20  # bytes of a message


def new_socket() -> socket.socket:
    return socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def ask(server, arguments, folder, environment, files) -> socket.socket:
    """The connection on which the server answers."""
    connection = new_socket()
    connection.connect(f"\0{server}")
    message = json.dumps([arguments, str(folder), dict(environment)])
    socket.send_fds(connection, [message.encode()], files)
    return connection


def answer_on(connection):
    message = connection.recv(LARGEST)
    if not message:
        raise RuntimeError("the server of the tests' Snakemake has ended")
    return json.loads(message)


def session_server() -> str:
    """The server of this session, which the first to ask starts."""
    import subprocess

    owner = os.environ[SESSION]
    server = f"grcsf-tests-{owner}"
    with new_socket() as listener:
        try:
            listener.bind(f"\0{server}")
        except OSError:  # it is there
            return server
        listener.listen()
        one_thread = {"OMP_NUM_THREADS": "1", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "1"}
        subprocess.Popen(
            [sys.executable, "-m", "tests.workflow.warm_server", str(listener.fileno()), owner],
            cwd=ROOT,
            env={**os.environ, **one_thread, "PYTHONPATH": ""},
            stdin=subprocess.DEVNULL,
            pass_fds=[listener.fileno()],
            start_new_session=True,
        )
    return server


class Process:
    """A call of `python`, with the part of `subprocess.Popen` that tests use."""

    def __init__(self, arguments: list[str], folder: Path, environment: dict[str, str]) -> None:
        reading, writing = os.pipe()
        self.stdout = os.fdopen(reading, encoding="utf-8")  # and stderr
        files = [0, writing, writing]
        self.connection = ask(session_server(), arguments, folder, environment, files)
        os.close(writing)
        self.pid = answer_on(self.connection)
        self.returncode: int | None = None
        self.seconds = 0.0  # of the processor, with those of all processes that it waited for

    def wait(self) -> int:
        if self.returncode is None:
            status, self.seconds = answer_on(self.connection)
            self.returncode = os.waitstatus_to_exitcode(status)
            self.connection.close()
        return self.returncode

    def communicate(self) -> str:
        """What is still said until the end."""
        with self.stdout:
            output = self.stdout.read()
        self.wait()
        return output

    def kill(self, number: int = signal.SIGKILL) -> None:
        os.kill(self.pid, number)

    def kill_group(self, number: int = signal.SIGKILL) -> None:
        os.killpg(self.pid, number)


def processor_seconds() -> float:
    """Those of the session's server and its children."""
    with new_socket() as connection:
        try:
            connection.connect(f"\0grcsf-tests-{os.environ[SESSION]}")
        except ConnectionRefusedError:  # nobody has asked for it
            return 0.0
        connection.send(b"seconds")
        return answer_on(connection)


def run_as_job(arguments: list[str]) -> None:
    """What `bin/python` does: it lets a server run a stage, and ends as that does."""
    if arguments[:2] != ["-m", "pipeline"]:
        os.execv(os.environ[PYTHON], [os.environ[PYTHON], *arguments])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the stage gets it as well, and ends
    connection = ask(os.environ[JOBS], arguments, Path.cwd(), os.environ, [0, 1, 2])
    answer_on(connection)
    code = os.waitstatus_to_exitcode(answer_on(connection)[0])
    sys.exit(code if code >= 0 else 128 - code)  # of a signal as a shell tells it


if __name__ == "__main__":
    run_as_job(sys.argv[1:])
