"""Busy traffic without a failure: every shape that a healthy stack shows, many concurrently, until its time is over.

    traffic.py SECONDS '{"core": URL, "tls": URL, "raw": URL, "fork": URL, "recycled": URL}'

Each shape must end well for its client; a failure is reported, and makes the traffic unclean. At its end it appends one
JSON line to the file that GAIA_MONITOR_TEST_EVENTS names: {"event": "done", "counts": {shape: number}, "failed": [text]}.
It must never reuse a connection about when its server's keep-alive time is over: that is a race, and races break.
"""

import asyncio
import json
import os
import random
import socket
import struct
import sys
import time
from urllib.parse import urlsplit

import httpx
import requests
import websockets

SECONDS = float(sys.argv[1])
URLS = json.loads(sys.argv[2])
WORKERS = 6
# The servers' keep-alive time is two seconds.
WITHIN_KEEP_ALIVE, BEYOND_KEEP_ALIVE = 0.2, 4.0


def client(**options):
    return httpx.AsyncClient(trust_env=False, timeout=30, **options)


async def get(url, status=200, **options):
    async with client() as one:
        answer = await one.get(url, **options)
        assert answer.status_code == status, answer.status_code


def address(url):
    parts = urlsplit(url)
    return parts.hostname, parts.port


async def wire(url, request, read=True):
    """Bytes over a plain socket, and everything that is received."""
    reader, writer = await asyncio.open_connection(*address(url))
    writer.write(request)
    await writer.drain()
    answer = await asyncio.wait_for(reader.read(), 30) if read else b""
    writer.close()
    await writer.wait_closed()
    return answer


# --- shapes -----------------------------------------------------------------------------------------------------


async def kept():
    async with client() as one:
        for _ in range(8):
            assert (await one.get(URLS["core"] + "/ok")).status_code == 200
            await asyncio.sleep(random.random() * WITHIN_KEEP_ALIVE)


async def kept_beyond_the_servers_patience():
    async with client() as one:
        await one.get(URLS["core"] + "/ok")
        await asyncio.sleep(BEYOND_KEEP_ALIVE)
        assert (await one.get(URLS["core"] + "/ok")).status_code == 200


async def idle_until_the_server_closes():
    reader, writer = await asyncio.open_connection(*address(URLS["core"]))
    writer.write(b"GET /ok HTTP/1.1\r\nHost: core\r\n\r\n")
    assert b"200" in await asyncio.wait_for(reader.read(), 30)
    writer.close()


async def closed_by_the_server():
    await get(URLS["core"] + "/close")
    await get(URLS["raw"] + "/ok")


async def http10():
    await get(URLS["raw"] + "/http10")
    answer = await wire(URLS["core"], b"GET /ok HTTP/1.0\r\n\r\n")
    assert answer.endswith(b"ok"), answer


async def shapes_of_a_body():
    async with client() as one:
        assert (await one.get(URLS["core"] + "/stream?chunks=6&pause=0.01")).status_code == 200
        assert (await one.get(URLS["core"] + "/length?total=300000&sent=1000")).status_code == 200
        assert (await one.head(URLS["core"] + "/ok")).status_code == 200
        for status in (204, 304, 404, 500, 503):
            assert (await one.get(f"{URLS['core']}/status?code={status}")).status_code == status
        assert (await one.get(URLS["core"] + "/raise")).status_code == 500


async def interim_answers():
    await get(URLS["raw"] + "/early-hints")
    request = b"POST /ok HTTP/1.1\r\nHost: core\r\nContent-Length: 5\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
    reader, writer = await asyncio.open_connection(*address(URLS["core"]))
    writer.write(request)
    writer.write(b"hello")
    assert b"200" in await asyncio.wait_for(reader.read(), 30)
    writer.close()


async def pipelined():
    one = b"GET /ok HTTP/1.1\r\nHost: core\r\n\r\n"
    last = b"GET /ok HTTP/1.1\r\nHost: core\r\nConnection: close\r\n\r\n"
    answer = await wire(URLS["core"], one * 3 + last)
    assert answer.count(b"HTTP/1.1 200") == 4, answer


async def half_closed():
    reader, writer = await asyncio.open_connection(*address(URLS["raw"]))
    writer.write(b"GET /slow?seconds=0.1 HTTP/1.1\r\nHost: raw\r\n\r\n")
    writer.write_eof()
    assert b"200" in await asyncio.wait_for(reader.read(), 30)
    writer.close()


async def uploads():
    async with client() as one:
        assert (await one.post(URLS["core"] + "/ok", content=b"u" * (1 << 20))).status_code == 200


async def slow_but_served():
    await get(URLS["core"] + "/slow?seconds=1.2")


async def many_at_once():
    await asyncio.gather(*(get(URLS["core"] + "/slow?seconds=0.1") for _ in range(12)))


async def by_requests():
    def one():
        with requests.Session() as session:
            session.trust_env = False
            assert session.get(URLS["core"] + "/ok", timeout=30).status_code == 200
            assert session.get(URLS["core"] + "/stream", timeout=30).status_code == 200

    await asyncio.to_thread(one)


async def leaves_early():
    """Cancelled by the client: counted, and no incident."""
    try:
        async with asyncio.timeout(0.2):
            await get(URLS["core"] + "/slow?seconds=0.4")
    except TimeoutError:
        return
    raise AssertionError("it was faster than its own patience")


async def probes_of_a_balancer():
    for name in ("core", "raw", "fork", "tls"):
        for linger in (False, True):
            probe = socket.create_connection(address(URLS[name]), timeout=10)
            if linger:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            probe.close()
            await asyncio.sleep(0.01)


async def recycled_workers():
    """Sync workers only: a recycled uvicorn worker closes connections that it accepted and that sent nothing yet."""
    for _ in range(4):
        await get(URLS["fork"] + "/ok", headers={"Connection": "close"})


async def encrypted():
    async with client(verify=False) as one:
        assert (await one.get(URLS["tls"] + "/ok")).status_code == 200
        await asyncio.sleep(random.random() * WITHIN_KEEP_ALIVE)
        assert (await one.get(URLS["tls"] + "/stream?pause=0.01")).status_code == 200
        assert (await one.get(URLS["tls"] + "/close")).status_code == 200


async def encrypted_by_requests():
    def one():
        with requests.Session() as session:
            session.trust_env = False
            assert session.get(URLS["tls"] + "/ok", verify=False, timeout=30).status_code == 200

    await asyncio.to_thread(one)


async def upgraded():
    where = URLS["core"].replace("http:", "ws:")
    async with websockets.connect(where + "/echo", proxy=None) as one:
        for number in range(3):
            await one.send(f"message {number}")
            assert await one.recv() == f"message {number}"
    # This time the server closes first.
    async with websockets.connect(where + "/goodbye", proxy=None) as one:
        await one.send("are you there?")
        try:
            await asyncio.wait_for(one.recv(), 30)
        except websockets.ConnectionClosedOK:
            return
        raise AssertionError("the server did not close")


async def unknown_name():
    try:
        await asyncio.get_running_loop().getaddrinfo("no-such-name-anywhere", 80, type=socket.SOCK_STREAM)
    except socket.gaierror:
        return


SHAPES = [
    kept,
    kept_beyond_the_servers_patience,
    idle_until_the_server_closes,
    closed_by_the_server,
    http10,
    shapes_of_a_body,
    interim_answers,
    pipelined,
    half_closed,
    uploads,
    slow_but_served,
    many_at_once,
    by_requests,
    leaves_early,
    probes_of_a_balancer,
    recycled_workers,
    encrypted,
    encrypted_by_requests,
    upgraded,
    unknown_name,
]


async def worker(number, until, counts, failed):
    turns = random.Random(number)
    while time.monotonic() < until:
        # Each shape once before any is repeated.
        for shape in turns.sample(SHAPES, len(SHAPES)):
            if time.monotonic() >= until:
                break
            try:
                await shape()
                counts[shape.__name__] = counts.get(shape.__name__, 0) + 1
            except Exception as error:  # reported, and judged by the reader of the report
                failed.append(f"{shape.__name__}: {type(error).__name__}: {error}")


async def main():
    counts, failed = {}, []
    until = time.monotonic() + SECONDS
    await asyncio.gather(*(worker(number, until, counts, failed) for number in range(WORKERS)))
    with open(os.environ["GAIA_MONITOR_TEST_EVENTS"], "a") as events:
        events.write(json.dumps({"event": "done", "pid": os.getpid(), "counts": counts, "failed": failed[:20]}) + "\n")
    # It stays: the container must not end with the traffic.
    await asyncio.Event().wait()


requests.packages.urllib3.disable_warnings()
asyncio.run(main())
