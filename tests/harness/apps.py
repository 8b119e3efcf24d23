"""Services in front of which relayd is put: the configuration's part for each."""

import shutil
import signal

from . import places, processes
from .relayd import merge


def service(command, path="/up", **more):
    """A service with short times; `more` is merged into it."""
    base = {
        "backend": {"command": list(command), "kill_timeout": "5s"},
        "health": {"interval": "100ms", "ready_timeout": "20s"},
        "rollover": {"graceful_timeout": "20s"},
    }
    if path:
        base["health"]["path"] = path
    return merge(base, more)


def demo(*arguments, **more):
    return service([places.program("demo_app"), *arguments], **more)


def gunicorn(workers=2, arguments=(), **more):
    command = ["/usr/bin/gunicorn", "--workers", str(workers), "--chdir", str(places.APPS), "--bind", "{address}", *arguments]
    return service([*command, "--log-level", "warning", "wsgi_app:application"], **more)


def node(**more):
    return service([shutil.which("node", path="/usr/bin") or shutil.which("node"), str(places.APPS / "node_app.js")], **more)


def handed_over(of, **more):
    """The same app with the public sockets themselves: what is relayd's work between client and app is left out."""
    base = merge(of, {"backend": {"address": "handoff"}})
    base["health"].pop("path", None)
    base["health"].pop("interval", None)
    return merge(base, more)


def activated(of, **more):
    """The same app with a listening socket of relayd's."""
    return merge(merge(of, {"backend": {"address": "activation"}}), more)


def gunicorn_with_passed_sockets(workers=2, **more):
    """Without --bind it takes what LISTEN_FDS says."""
    command = ["/usr/bin/gunicorn", "--workers", str(workers), "--chdir", str(places.APPS), "--log-level", "warning"]
    return service([*command, "wsgi_app:application"], **more)


def wait_for_gunicorn_workers(relayd, workers=2):
    """Gunicorn says READY=1 before it forks them, and a worker without handlers of its own drops the TERM of its arbiter, which
    then waits for it in vain. SIGABRT is the last for which a worker sets one; the arbiter has none for it."""

    def all_heed_signals():
        (arbiter,) = relayd.instance_pids()
        children = processes.children(arbiter)
        return len(children) == workers and all(processes.catches(child, signal.SIGABRT) for child in children)

    processes.wait_until(all_heed_signals, "Gunicorn's workers heed signals")


def passed(**more):
    """An app in systemd's style that speaks sd_notify."""
    return service([places.PYTHON, "-B", str(places.APPS / "passed_app.py")], path=None, **more)


def nginx(folder, *words, **more):
    script = str(places.APPS / "nginx.sh")
    command = ["/bin/sh", script, str(folder), "{address}", "{generation}", *words]
    path = None if "http2" in words else "/up"  # a check speaks HTTP/1
    return service(command, path, **merge({"backend": {"stop_signal": "QUIT"}}, more))


def websocket(**more):
    return service([places.PYTHON, "-B", str(places.APPS / "websocket_app.py")], **more)


def naming_its_client(header="none", **more):
    """An app that tells in X-Client whom it was told to serve, by PROXY headers of this version alone ("v1", "v2")."""
    return service([places.PYTHON, "-B", str(places.APPS / "client_app.py"), header], **more)


def redis(*arguments, **more):
    command = ["/usr/bin/redis-server", "--port", "{port}", "--bind", "{host}", "--save", "", "--appendonly", "no", *arguments]
    return service(command, path=None, **more)
