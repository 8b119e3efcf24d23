"""Who is measured: relayd, its peers, and two yardsticks (no proxy at all, and the least a relay can be)."""

import os
import shutil
import socket

from processes import free_port, tree, wait_until_it_answers

NGINX_MODULE = "/usr/lib/nginx/modules/ngx_stream_module.so"
SOCKET_PROXYD = "/usr/lib/systemd/systemd-socket-proxyd"
MOST_PAIRS = 9300  # of HAProxy: two descriptors each, and two for each pipe, within the 20,000 that many systems allow
PIPES = 400

# In this order they are printed. What ends in " unix" has the same backend on a Unix socket.
TCP = ["direct", "floor", "floor splice", "relayd", "haproxy", "haproxy splice", "nginx", "nginx half-close",
       "socket-proxyd"]
# HTTP on kept connections; "relayd" (protocol: tcp), "direct" and "floor" do that work too.
HTTP = ["relayd auto", "relayd http", "haproxy http", "nginx http"]
UNIX = [name + " unix" for name in TCP if name != "nginx half-close"]


def takes_part(name, work):
    """Those that only splice otherwise would do the same as without in all but bulk; half-closes occur in connects."""
    if name in HTTP or work == "http":
        return work == "http" and (name in HTTP or name in ("direct", "floor", "relayd"))
    if "splice" in name:
        return work == "bulk"
    if "half-close" in name:
        return work.startswith("connect")
    return True


class Backend:
    """The one that peers connect to; relayd starts its own copy of the same program."""

    def __init__(self, stage, kind):
        self.address = f"127.0.0.1:{free_port()}" if kind == "tcp" else "unix:" + stage.path("backend.sock")
        self.process = stage.start([stage.program("bench_backend"), self.address], stage.load_cpu)
        wait_until_it_answers(self.process, self.address)
        if kind == "unix":
            os.chmod(self.address[5:], 0o777)  # nginx's worker may be another user


class Candidate:
    """One running proxy. `name` ends in " unix" where its backend listens on a Unix socket.

    nginx closes both sides when one has ended, unless told otherwise ("nginx half-close"); relayd and HAProxy always
    pass the end of one direction on and wait for the other. HAProxy may splice where it finds that worth while
    (`splice-auto`); "haproxy splice" is told to do it always.
    """

    def __init__(self, stage, name, backends):
        self.stage = stage
        self.name = name
        self.process = None
        self.control = None  # relayd's control socket
        backend = backends["unix" if name.endswith("unix") else "tcp"]
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        starts = {"direct": self._start_direct, "floor": self._start_floor, "relayd": self._start_relayd,
                  "haproxy": self._start_haproxy, "nginx": self._start_nginx, "socket-proxyd": self._start_socket_proxyd}
        starts[name.split()[0]](backend)
        if self.process:
            wait_until_it_answers(self.process, self.address, http=name.endswith(" http"))

    def pids(self):
        """The proxy's own processes: relayd's backend, which it started itself, is not one of them."""
        return tree(self.process.pid, without="bench_backend")

    def end(self):
        if self.process:
            self.stage.end(self.process)

    def _start(self, *command, **options):
        self.process = self.stage.start(list(command), self.stage.proxy_cpu, **options)

    def _start_direct(self, backend):
        self.address = backend.address
        self.backend = backend

    def _start_floor(self, backend):
        splices = ["--splice"] if "splice" in self.name else []
        self._start(self.stage.program("bench_floor"), self.address, backend.address, *splices)

    def _start_relayd(self, _):
        mode = self.name.split()[1] if self.name in HTTP else "tcp"
        kind = "socket" if self.name.endswith("unix") else "port"
        folder = self.stage.path("relayd")
        os.mkdir(folder, 0o755)
        self.control = folder + "/control.sock"
        config = self.stage.write("relayd.yaml", f"""
control: {{socket: {self.control}}}
log: {{level: warn}}
threads: 1
services:
  bench:
    listen: ["{self.address}"]
    protocol: {mode}
    backend:
      command: [taskset, -c, "{self.stage.load_cpu}", "{self.stage.program('bench_backend')}", "{{address}}"]
      address: {kind}
    health: {{check: tcp, interval: 0s}}
    rollover: {{mode: phased, graceful_timeout: 1h, max_old_generations: 20}}
""")
        self._start(self.stage.program("relayd"), "--config", config, env={**os.environ, "RUNTIME_DIRECTORY": folder})

    def _start_haproxy(self, backend):
        splicing = ["splice-request", "splice-response"] if "splice" in self.name else ["splice-auto"]
        options = "\n".join(f"  option {option}" for option in splicing)
        config = self.stage.write("haproxy.cfg", f"""
global
  nbthread 1
  maxconn {MOST_PAIRS}
  maxpipes {PIPES}
defaults
  mode {"http" if self.name in HTTP else "tcp"}
{options}
  timeout connect 5s
  timeout client 1h
  timeout server 1h
listen bench
  bind {self.address}
  server backend {backend.address.replace("unix:", "unix@")}
""")
        self._start("haproxy", "-db", "-f", config)

    def _start_nginx(self, backend):
        if self.name in HTTP:
            module = ""
            relays = f"""http {{
  access_log off;
  keepalive_requests 100000000;
  upstream bench {{ server {backend.address}; keepalive 256; keepalive_requests 100000000; }}
  server {{
    listen {self.address} backlog=4096;
    location / {{ proxy_pass http://bench; proxy_http_version 1.1; proxy_set_header Connection ""; }}
  }}
}}"""
        else:
            module = f"load_module {NGINX_MODULE};" if os.path.exists(NGINX_MODULE) else ""
            relays = f"""stream {{
  access_log off;
  server {{
    listen {self.address} backlog=4096;
    proxy_pass {backend.address};
    proxy_connect_timeout 5s;
    proxy_timeout 1h;
    {"proxy_half_close on;" if "half-close" in self.name else ""}
  }}
}}"""
        config = self.stage.write("nginx.conf", f"""
{module}
{"user root;" if os.geteuid() == 0 else ""}
daemon off;
pid {self.stage.path("nginx.pid")};
error_log stderr error;
worker_processes 1;
events {{ worker_connections 19900; }}
{relays}
""")
        self._start("nginx", "-e", "stderr", "-p", self.stage.folder, "-c", config)

    def _start_socket_proxyd(self, backend):
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", self.port))
            listener.listen(4096)
            listener.setblocking(False)
            fd = listener.fileno()
            command = f'exec 3<&{fd}; LISTEN_FDS=1 LISTEN_PID=$$ exec {SOCKET_PROXYD} --connections-max=9000 "$0"'
            self._start("sh", "-c", command, backend.address.removeprefix("unix:"), pass_fds=[fd])


def missing():
    """Debian packages that are not there."""
    found = {"haproxy": shutil.which("haproxy"), "nginx-light": shutil.which("nginx"),
             "libnginx-mod-stream": os.path.exists(NGINX_MODULE), "strace": shutil.which("strace"),
             "systemd": os.path.exists(SOCKET_PROXYD)}
    return [package for package, there in found.items() if not there]
