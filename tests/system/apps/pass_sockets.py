"""Plays systemd: `pass_sockets.py NAME:FD... -- COMMAND` passes these descriptors by sd_listen_fds(3), and becomes the
command."""

import os
import sys

end = sys.argv.index("--")
pairs = [argument.rpartition(":") for argument in sys.argv[1:end]]
copies = [os.dup(int(fd)) for _, _, fd in pairs]
spare = [os.dup(copies[0]) for _ in range(len(copies) + 8)]  # so that no copy stands where another has to go
copies = [os.dup(fd) for fd in copies]
for number, fd in enumerate(copies):
    os.dup2(fd, 3 + number, inheritable=True)
os.environ.update(
    LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(pairs)), LISTEN_FDNAMES=":".join(name for name, _, _ in pairs)
)
os.execvp(sys.argv[end + 1], sys.argv[end + 1 :])
