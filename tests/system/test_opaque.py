"""What is no HTTP/1 is left alone where `protocol: auto` looks for it."""

import contextlib
import ssl
import subprocess

from harness import apps, http, places


def assert_opaque(relayd):
    service = relayd.service()
    assert service["requests"] == service["crossings"] == service["answered"] == 0, service
    assert service["bytes_in"] > 0 and service["bytes_out"] > 0, service


def test_redis_is_relayed_as_it_is(relayd):
    relayd.start({"redis": apps.redis()})
    with http.connect(relayd.address) as link, link.makefile("rb") as lines:
        link.sendall(b"SET who first\r\n")
        assert lines.readline() == b"+OK\r\n"
        link.sendall(b"GET who\r\nPING\r\n")  # inline: the first word is a method of HTTP too
        assert [lines.readline() for _ in range(3)] == [b"$5\r\n", b"first\r\n", b"+PONG\r\n"]
        relayd.rollover("phased")
        link.sendall(b"GET who\r\n")
        assert [lines.readline() for _ in range(2)] == [b"$5\r\n", b"first\r\n"]
    assert_opaque(relayd)


def certificate(folder):
    key, chain = folder / "key.pem", folder / "chain.pem"
    command = ["/usr/bin/openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    subprocess.run([*command, "-keyout", key, "-out", chain], check=True, capture_output=True)
    for file in (key, chain):
        file.chmod(0o644)
    return key, chain


def test_tls_is_passed_through(relayd):
    key, chain = certificate(relayd.folder)
    command = ["/usr/bin/openssl", "s_server", "-accept", "{address}", "-key", str(key), "-cert", str(chain), "-quiet", "-rev"]
    relayd.start({"tls": apps.service(command, path=None)})
    context = ssl.create_default_context(cafile=str(chain))
    with contextlib.ExitStack() as stack:

        def connected():
            link = stack.enter_context(context.wrap_socket(http.connect(relayd.address), server_hostname="localhost"))
            return link, stack.enter_context(link.makefile("rb"))

        old, lines = connected()
        old.sendall(b"first\n")
        assert lines.readline() == b"tsrif\n"
        relayd.rollover("phased")
        new, new_lines = connected()
        new.sendall(b"second\n")
        assert new_lines.readline() == b"dnoces\n"
        old.sendall(b"still\n")
        assert lines.readline() == b"llits\n"
    assert_opaque(relayd)


def test_http2_with_prior_knowledge_is_passed_through(relayd):
    relayd.start({"web": apps.nginx(relayd.folder, "http2")})
    for generation in ("1", "2"):
        command = ["/usr/bin/curl", "-sS", "--http2-prior-knowledge", "-w", "%{http_version} %{http_code}"]
        ended = subprocess.run([*command, f"http://{relayd.address}/"], capture_output=True, text=True, timeout=30)
        assert ended.stdout == f"generation {generation}\n2 200", ended
        relayd.rollover("phased")
    assert_opaque(relayd)


def test_a_server_that_speaks_first_is_heard(relayd):
    script = (
        "import os, socketserver\n"
        "class Greeter(socketserver.StreamRequestHandler):\n"
        "    def handle(self):\n"
        "        self.wfile.write(f'220 {os.environ[\"RELAY_GENERATION\"]}\\r\\n'.encode())\n"
        "        self.wfile.write(b'250 ' + self.rfile.readline())\n"
        "socketserver.ThreadingTCPServer.daemon_threads = True\n"
        "socketserver.ThreadingTCPServer((os.environ['HOST'], int(os.environ['PORT'])), Greeter).serve_forever()\n"
    ).replace("{", "{{").replace("}", "}}")
    relayd.start({"mail": apps.service([places.PYTHON, "-c", script], path=None)})
    with http.connect(relayd.address) as link, link.makefile("rb") as lines:
        assert lines.readline() == b"220 1\r\n"
        link.sendall(b"GET / HTTP/1.1\r\n")  # it is no HTTP any more
        assert lines.readline() == b"250 GET / HTTP/1.1\r\n"
    assert_opaque(relayd)
