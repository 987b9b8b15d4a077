"""What `sys.executable` names for warm commands: a fork of the warm process where a module of opttune's is to run.

Anything else is run by Python itself. `warm.py` puts `PYTHON` and `SOCKET` in front of this text.
"""

import json
import os
import signal
import socket
import sys


def main(arguments: list[str]) -> None:
    if arguments[:1] != ["-m"] or not arguments[1].startswith(("opttune.", "tests.")):
        os.execv(PYTHON, [PYTHON, *arguments])  # type: ignore[name-defined]  # noqa: F821
    # what is forked decides on it; this process ends as it does
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    status, its_status = os.pipe()
    request = {"arguments": arguments, "cwd": os.getcwd(), "env": dict(os.environ), "apart": True}
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        server.connect(SOCKET)  # type: ignore[name-defined]  # noqa: F821
        socket.send_fds(server, [json.dumps(request).encode()], [0, 1, 2, its_status])
    os.close(its_status)
    _, code = (int(line) for line in os.fdopen(status))
    if code < 0:
        signal.signal(-code, signal.SIG_DFL) if -code != signal.SIGKILL else None
        os.kill(os.getpid(), -code)
    os._exit(code)


if __name__ == "__main__":
    main(sys.argv[1:])
