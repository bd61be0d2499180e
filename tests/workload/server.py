"""A server that ends, or stays alive, in every way that the live suite needs. One route, one behaviour.

    server.py http  [--port P] [--workers N] [--delay S] [--keep-alive S]   uvicorn; [--loop L] [--http P] its own options, [--tls],
                    [--limit N] requests of a worker, [--importing S] [--starting S] seconds that its application takes to import, to start
    server.py fork  [--port P] [--workers N] [--limit N]                          gunicorn, prefork, sync workers, [--patience S]
    server.py raw   [--port P] [--delay S]                                  plain sockets: closes that no framework makes
    server.py proxy [--port P] --to HOST:PORT                               a live server between a client and another server
    server.py front [--port P] --then MODE…                                 a parent that forks a server and can kill it
    server.py hoard [--port P] [--fill N]                                   listens with a queue of one and never accepts
    server.py shell [--port P] --then MODE…                                 a shell that waits for a server, and exits with its status
    server.py die   --delay S --code C                                      no server: exits after the delay

Each request prints one JSON line when its handler begins, so that a fault happens after a request was really
read: `{"event": "enter", "path": …, "pid": …}` with the pid inside the container. It prints `listening` when it listens.
The same lines are appended to the file that GAIA_MONITOR_TEST_EVENTS names.
It must never handle an exception that a case needs: the process has to end as the case expects.
"""

import argparse
import asyncio
import ctypes
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from urllib.parse import parse_qs, urlsplit

import faults

PORT_VARIABLE = "GAIA_MONITOR_TEST_PORT"
IMPORTING_VARIABLE = "GAIA_MONITOR_TEST_IMPORTING"
STARTING_VARIABLE = "GAIA_MONITOR_TEST_STARTING"
EVENTS_PATH = os.environ.get("GAIA_MONITOR_TEST_EVENTS")
EVENTS = os.open(EVENTS_PATH, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666) if EVENTS_PATH else None


def say(event, **fields):
    line = json.dumps({"event": event, "pid": os.getpid(), **fields}) + "\n"
    sys.stdout.write(line)
    sys.stdout.flush()
    # One write of one line: workers append to the same file, and it outlives a restart of the container.
    if EVENTS is not None:
        os.write(EVENTS, line.encode())


def allocate_until_killed():
    hoard = []
    while True:
        block = bytearray(4 << 20)
        block[:: 4096] = b"x" * len(block[:: 4096])
        hoard.append(block)


def end(path, arg):
    """Every way in which a process ends itself. Returns only for another path."""
    if path == "/exit":
        os._exit(int(arg("code", "0")))
    if path == "/abort":
        os.abort()
    if path == "/segv":
        # Where a relative core pattern writes to; the workload itself lies on a read-only mount.
        os.chdir(arg("in", os.getcwd()))
        ctypes.string_at(0)
    if path == "/oom":
        allocate_until_killed()
    faults.of_path(path, arg)
    if path == "/kill-self":
        os.kill(os.getpid(), getattr(signal, arg("signal", "SIGKILL")))


def is_first(arg):
    """Is it the first request that names this `once`, in all runs of the container? Without one, each is."""
    if not arg("once", ""):
        return True
    try:
        os.close(os.open(os.path.join("/case", arg("once", "")), os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


# --- ASGI, for uvicorn ------------------------------------------------------------------------------------------


def port_is_listening(port):
    """By the kernel's table: a connection made to find out would be traffic of its own."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with open(table) as lines:
            for line in list(lines)[1:]:
                fields = line.split()
                if fields[3] == "0A" and int(fields[1].rsplit(":", 1)[1], 16) == port:
                    return True
    return False


async def announce():
    # uvicorn binds only after the application's startup has returned.
    while not port_is_listening(int(os.environ[PORT_VARIABLE])):
        await asyncio.sleep(0.01)
    say("listening")


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await asyncio.sleep(float(os.environ.get(STARTING_VARIABLE, "0")))
                scope["state"]["announcer"] = asyncio.create_task(announce())
                await send({"type": "lifespan.startup.complete"})
            else:
                await send({"type": "lifespan.shutdown.complete"})
                return
    path = scope["path"]
    query = parse_qs(scope["query_string"].decode())
    if scope["type"] == "websocket":
        return await web_socket(path, receive, send)

    def arg(name, default):
        return query.get(name, [default])[0]

    async def head(status=200, **headers):
        listed = [(key.replace("_", "-").encode(), str(value).encode()) for key, value in headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": listed})

    async def body(data, more=False):
        await send({"type": "http.response.body", "body": data, "more_body": more})

    async def read_all():
        while True:
            message = await receive()
            if message["type"] != "http.request" or not message.get("more_body"):
                return

    # `/upload` sleeps on a body that it never reads: uvicorn stops reading, the bytes stay in the kernel.
    if path not in ("/upload", "/linger"):
        await read_all()
    say("enter", path=path)
    seconds = float(arg("seconds", "0"))
    if path == "/upload":
        await asyncio.sleep(seconds)
        await head(content_length=2)
        await body(b"ok")
    elif path == "/slow":
        if is_first(arg):
            await asyncio.sleep(seconds)
        await head(content_length=2)
        await body(b"ok")
    elif path == "/block":
        time.sleep(seconds)
        await head(content_length=2)
        await body(b"ok")
    elif path in ("/stream", "/raise-stream"):
        await head()
        for index in range(int(arg("chunks", "5"))):
            await body(b"chunk %d\n" % index, more=True)
            await asyncio.sleep(float(arg("pause", "0.05")))
        if path == "/raise-stream":
            raise RuntimeError("the handler failed in the middle of its answer")
        await body(b"")
    elif path in ("/length", "/raise-length"):
        total = int(arg("total", "2000"))
        sent = int(arg("sent", "600"))
        await head(content_length=total)
        await body(b"x" * sent, more=True)
        if path == "/raise-length":
            raise RuntimeError("the handler failed in the middle of its answer")
        await asyncio.sleep(seconds)
        await body(b"x" * (total - sent))
    elif path == "/raise":
        raise RuntimeError("the handler failed before its answer")
    elif path == "/status":
        await head(int(arg("code", "503")), content_length=0)
        await body(b"")
    elif path == "/close":
        await head(content_length=2, connection="close")
        await body(b"ok")
    elif path == "/system-exit":
        raise SystemExit(3)
    elif path in ("/linger", "/hang-up", "/abort-transport"):
        # uvicorn's cycle object, the bound `self` of `receive`, holds the transport.
        transport = receive.__self__.transport
        if path == "/linger":
            duplicate = socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
            duplicate.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            duplicate.close()
            transport.abort()
        elif path == "/abort-transport":
            transport.abort()
        else:
            transport.close()
    elif path == "/look-up":
        await looked_up(arg, head, body, receive)
    elif path == "/pid":
        answer = str(os.getpid()).encode()
        await head(content_length=len(answer))
        await body(answer)
    else:
        if is_first(arg):
            end(path, arg)
        await head(content_length=2)
        await body(b"ok")


async def web_socket(path, receive, send):
    """Echoes each message; on `/goodbye` it closes instead."""
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        if path == "/goodbye":
            return await send({"type": "websocket.close"})
        await send({"type": "websocket.send", "text": message["text"]})


async def looked_up(arg, head, body, receive):
    """Needs a name; without one it fails as the request demands."""
    then = arg("then", "500")
    started = time.time_ns()
    try:
        await asyncio.get_running_loop().getaddrinfo(arg("name", ""), 80, type=socket.SOCK_STREAM)
        await head(content_length=2)
        return await body(b"ok")
    except socket.gaierror as error:
        say("looked_up", started=started, at=time.time_ns(), errno=error.errno)
    if then in ("500", "503"):
        await head(int(then), content_length=0)
        await body(b"")
    elif then == "hang-up":
        receive.__self__.transport.close()
    elif then == "linger":
        transport = receive.__self__.transport
        duplicate = socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
        duplicate.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        duplicate.close()
        transport.abort()
    elif then == "exit":
        os._exit(7)
    elif then == "hang":
        await asyncio.sleep(60)


# --- WSGI, for gunicorn -----------------------------------------------------------------------------------------


def wsgi(environ, start_response):
    path = environ["PATH_INFO"]
    query = parse_qs(environ.get("QUERY_STRING", ""))

    def arg(name, default):
        return query.get(name, [default])[0]

    say("enter", path=path)
    end(path, arg)
    if path == "/slow":
        time.sleep(float(arg("seconds", "0")))
    answer = str(os.getpid()).encode() if path == "/pid" else b"ok"
    start_response("200 OK", [("Content-Length", str(len(answer)))])
    return [answer]


# --- plain sockets ----------------------------------------------------------------------------------------------


def read_head(connection):
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        if not piece:
            return None
        data += piece
    return data.split(b" ", 2)[1].decode()


def raw_connection(connection):
    """One request; the path selects what happens to the connection."""
    target = read_head(connection)
    if target is None:
        connection.close()
        return
    parts = urlsplit(target)
    query = parse_qs(parts.query)
    say("enter", path=parts.path)
    if parts.path == "/linger":
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    elif parts.path == "/half-header":
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Le")
    elif parts.path == "/garbage":
        connection.sendall(b"this is not http\r\n\r\n")
        time.sleep(float(query.get("seconds", ["0.3"])[0]))
    elif parts.path == "/tls-alert":
        # The response of a TLS server to plain HTTP: fatal, protocol_version (RFC 8446, 6).
        connection.sendall(b"\x15\x03\x01\x00\x02\x02\x46")
    elif parts.path == "/bad-status":
        connection.sendall(b"HTTP/1.1 abc OK\r\nContent-Length: 2\r\n\r\nok")
    elif parts.path == "/bad-header":
        connection.sendall(b"HTTP/1.1 200 OK\r\nbad header line\r\nContent-Length: 2\r\n\r\nok")
    elif parts.path == "/big-header":
        # More than any client's parser accepts (h11 and httpx: 100 KiB).
        connection.sendall(b"HTTP/1.1 200 OK\r\nX-Big: " + b"x" * (300 << 10))
        time.sleep(0.3)
    elif parts.path == "/bad-chunk":
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nno number\r\n")
        time.sleep(0.3)
    elif parts.path == "/only-continue":
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        time.sleep(0.1)
    elif parts.path == "/no-content":
        connection.sendall(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
    elif parts.path == "/not-modified":
        # The length is that of a body which is not sent (RFC 9110, 15.4.5).
        connection.sendall(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 2000\r\nConnection: close\r\n\r\n")
    elif parts.path == "/head":
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\nConnection: close\r\n\r\n")
    elif parts.path == "/unread-next":
        # The connection is kept, and closed when the next request has arrived, unread.
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        select.select([connection], [], [])
    elif parts.path == "/part-of-next":
        # The connection is kept, and closed with a part of the next request read.
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        connection.recv(5)
    elif parts.path == "/early-hints":
        connection.sendall(b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n")
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
    elif parts.path == "/http10":
        connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nuntil the close")
    elif parts.path == "/idle-close":
        # Closes the kept connection silently, as a keep-alive timeout does.
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        time.sleep(float(query.get("seconds", ["0"])[0]))
    elif parts.path == "/unread":
        # The body stays in the kernel: the close becomes a RST.
        time.sleep(float(query.get("seconds", ["0.3"])[0]))
    elif parts.path == "/slow":
        time.sleep(float(query.get("seconds", ["0"])[0]))
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
    elif parts.path != "/hang-up":
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
    connection.close()


def listen(port):
    family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
    listener = socket.create_server(("", port), family=family, dualstack_ipv6=family == socket.AF_INET6)
    say("listening")
    return listener


def serve_raw(options):
    listener = listen(options.port)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=raw_connection, args=(connection,), daemon=True).start()


def serve_proxy(options):
    """Forwards each request to another server, and closes when that one fails: nginx before a dead backend."""
    host, port = options.to.rsplit(":", 1)
    listener = listen(options.port)

    def relay(connection):
        target = read_head(connection)
        if target is None:
            return connection.close()
        say("enter", path=urlsplit(target).path)
        try:
            with socket.create_connection((host, int(port))) as backend:
                backend.sendall(b"GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n" % (target.encode(), host.encode()))
                while piece := backend.recv(65536):
                    connection.sendall(piece)
        except OSError as error:
            say("backend", error=type(error).__name__)
        connection.close()

    while True:
        connection, _ = listener.accept()
        threading.Thread(target=relay, args=(connection,), daemon=True).start()


def serve_hoard(options):
    """A queue for one connection (the kernel admits one more), N places taken by this process, and no accept."""
    listener = socket.create_server(("", options.port), backlog=1)
    kept = [listener] + [socket.create_connection(("127.0.0.1", options.port)) for _ in range(options.fill)]
    say("listening", kept=len(kept))
    signal.pause()


def serve_front(options):
    """A first process that is no server: it forks one, and a SIGUSR1 makes it kill that child."""
    rest = ["--port", str(options.port), *options.then[1:]]
    child = subprocess.Popen([sys.executable, os.path.abspath(__file__), options.then[0], *rest])
    signal.signal(signal.SIGUSR1, lambda *_: child.kill())
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    say("child", code=child.wait())
    signal.pause()


def serve_shell(options):
    """As images whose entry point is a script: the first process is a shell, and the server its child."""
    command = [sys.executable, os.path.abspath(__file__), options.then[0], "--port", str(options.port), *options.then[1:]]
    os.execv("/bin/sh", ["sh", "-c", '"$@"; exit $?', "sh", *command])


def certificate():
    """A key and a certificate of its own, in its own file system."""
    key, certificate = "/tmp/key.pem", "/tmp/certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
        + ["-subj", "/CN=core", "-keyout", key, "-out", certificate],
        check=True,
        stderr=subprocess.DEVNULL,
    )
    return {"ssl_keyfile": key, "ssl_certfile": certificate}


def serve_http(options):
    import uvicorn

    # Workers are spawned and import this file again: their settings come from the environment.
    os.environ[PORT_VARIABLE] = str(options.port)
    os.environ[IMPORTING_VARIABLE] = str(options.importing)
    os.environ[STARTING_VARIABLE] = str(options.starting)
    os.chdir(os.path.dirname(os.path.abspath(__file__)))
    uvicorn.run(
        "server:app",
        host=options.host,
        port=options.port,
        workers=options.workers,
        log_level="warning",
        timeout_keep_alive=options.keep_alive,
        timeout_graceful_shutdown=options.grace,
        loop=options.loop,
        http=options.http,
        limit_max_requests=options.limit or None,
        **(certificate() if options.tls else {}),
    )


def serve_fork(options):
    os.chdir(os.path.dirname(os.path.abspath(__file__)))
    # `exec`: gunicorn's arbiter is the container's first process, as its documentation has it.
    hooks = os.path.join(os.path.dirname(os.path.abspath(__file__)), "gunicorn_hooks.py")
    where = f"{options.host}:{options.port}"
    arguments = ["-w", str(options.workers), "-b", where, "--timeout", str(options.patience), "-c", hooks, "server:wsgi"]
    arguments += ["--max-requests", str(options.limit)]
    os.execv(sys.executable, [sys.executable, "-m", "gunicorn", *arguments])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("mode", choices=["http", "fork", "raw", "proxy", "front", "hoard", "shell", "die"])
    parser.add_argument("--host", default="0.0.0.0")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--delay", type=float, default=0, help="seconds before it binds")
    parser.add_argument("--keep-alive", type=int, default=5)
    parser.add_argument("--limit", type=int, default=0, help="requests after which a worker is replaced")
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--loop", default="auto")
    parser.add_argument("--http", default="auto")
    parser.add_argument("--importing", type=float, default=0)
    parser.add_argument("--starting", type=float, default=0)
    parser.add_argument("--grace", type=int, default=None)
    parser.add_argument("--patience", type=int, default=0, help="seconds that gunicorn lets a worker work")
    parser.add_argument("--code", type=int, default=0)
    parser.add_argument("--fill", type=int, default=0)
    parser.add_argument("--to", default="")
    parser.add_argument("--then", nargs=argparse.REMAINDER, default=[])
    options = parser.parse_args()
    say("starting")
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    if options.delay:
        time.sleep(options.delay)
    modes = {
        "http": serve_http,
        "fork": serve_fork,
        "raw": serve_raw,
        "proxy": serve_proxy,
        "front": serve_front,
        "hoard": serve_hoard,
        "shell": serve_shell,
        "die": lambda options: sys.exit(options.code),
    }
    modes[options.mode](options)


if __name__ == "__main__":
    main()
else:
    # uvicorn imports the application.
    time.sleep(float(os.environ.get(IMPORTING_VARIABLE, "0")))
