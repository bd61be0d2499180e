"""A client made of the real libraries. JSON lines in, JSON lines out; it ends when its input ends.

A command: {"id", "url", "method"="GET", "library"="httpx"|"requests", "timeout"=seconds or {connect, read, write, pool},
"count"=1 concurrent requests, "session"=name of a client that is kept for later commands, "cancel_after"=seconds,
"upload"={"bytes", "piece", "pause"}, "headers"={}, "retry"={"fallback", "waits", "statuses"}}. {"id", "look_up": name}
resolves a name. {"id", "url", "reuse"={"after", "spread", "hold"}, "count"} makes so many connections, each reused once.

Responses, in order of time, each with "id" and "index": {"event": "sent"} when the request is sent and its response is
awaited; {"event": "begun", "status"} after the header section; {"event": "attempt", …} for each attempt of a retried
request, with the fields of an end; {"event": "end", "class", "errno", "status", "bytes",
"message", "stage", "local": [ip, port], "started", "at"}. Instants are CLOCK_REALTIME in nanoseconds, taken at the
exception. "class" is "none" without an exception. An exception is logged to standard error in one line, as a
service would. It never retries by itself.
"""

import asyncio
import errno as numbers
import json
import select
import socket
import sys
import threading
import time

import httpx

NO_TIMEOUT_SECONDS = 300.0
write_lock = threading.Lock()
sessions = {}
# The local address of the connection that each kept client used last: a reused one makes no new connect.
last_local = {}


def say(**fields):
    with write_lock:
        sys.stdout.write(json.dumps(fields) + "\n")
        sys.stdout.flush()


def log(text):
    with write_lock:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()


def errno_of(error):
    """httpcore raises `from None`: the OSError is reachable only through `__context__`."""
    seen, pending = set(), [error]
    while pending:
        error = pending.pop()
        if error is None or id(error) in seen:
            continue
        seen.add(id(error))
        if isinstance(error, socket.gaierror):
            return {socket.EAI_NONAME: "EAI_NONAME", socket.EAI_AGAIN: "EAI_AGAIN"}.get(error.errno, str(error.errno))
        if isinstance(error, OSError) and error.errno is not None:
            return numbers.errorcode.get(error.errno, str(error.errno))
        pending += [error.__context__, error.__cause__, *getattr(error, "exceptions", ())]
        pending += [inner for inner in getattr(error, "args", ()) if isinstance(inner, BaseException)]
        reason = getattr(error, "reason", None)
        pending += [reason] if isinstance(reason, BaseException) else []
    return None


def timeouts(value):
    if isinstance(value, dict):
        return httpx.Timeout(NO_TIMEOUT_SECONDS, **value)
    return httpx.Timeout(NO_TIMEOUT_SECONDS if value is None else value)


async def upload_body(plan):
    left = plan["bytes"]
    while left > 0:
        piece = min(left, plan.get("piece", 65536))
        yield b"u" * piece
        left -= piece
        await asyncio.sleep(plan.get("pause", 0))


async def by_httpx(command, ids, url=None):
    """One exchange and its outcome."""
    found = {"stage": None, "local": last_local.get(command.get("session"))}

    async def trace(name, info):
        # httpcore closes the response after an error, as well: that is no stage of the exchange.
        if name.endswith(".started") and not name.startswith("http11.response_closed"):
            found["stage"] = name.removesuffix(".started")
        if name == "connection.connect_tcp.complete":
            found["local"] = list(info["return_value"].get_extra_info("client_addr")[:2])
        if name == "http11.send_request_headers.started" and command.get("hold"):
            await until_closed(command["hold"], kept[0])
        if name == "http11.receive_response_headers.started":
            say(event="sent", at=time.time_ns(), local=found["local"], **ids)

    name = command.get("session")
    client = sessions.get(name) if name else None
    if client is None:
        client = httpx.AsyncClient(timeout=timeouts(command.get("timeout")), trust_env=False, verify=False)
        if name:
            sessions[name] = client
    plan = command.get("upload")
    headers = dict(command.get("headers", {}))
    if plan and plan.get("length", True):
        headers["content-length"] = str(plan["bytes"])
    outcome = {"class": "none", "errno": None, "status": None, "bytes": 0, "message": ""}
    started = time.time_ns()

    async def exchange():
        async with client.stream(
            command.get("method", "POST" if plan else "GET"),
            url or command["url"],
            headers=headers,
            content=upload_body(plan) if plan else None,
            extensions={"trace": trace},
        ) as response:
            outcome["status"] = response.status_code
            found["local"] = list(response.extensions["network_stream"].get_extra_info("client_addr")[:2])
            say(event="begun", status=response.status_code, at=time.time_ns(), local=found["local"], **ids)
            async for piece in response.aiter_raw():
                outcome["bytes"] += len(piece)

    kept = sockets_of(client) if command.get("hold") else []
    try:
        if command.get("cancel_after") is not None:
            async with asyncio.timeout(command["cancel_after"]):
                await exchange()
        else:
            await exchange()
        at = time.time_ns()
    except Exception as error:  # every class is the result
        at = time.time_ns()
        outcome.update({"class": type(error).__name__, "errno": errno_of(error), "message": str(error)})
    if name:
        last_local[name] = found["local"]
    else:
        await client.aclose()
    if outcome["class"] != "none":
        method = command.get("method", "POST" if plan else "GET")
        log(f"{method} {url or command['url']} failed ({outcome['class']}): {outcome['message']}".rstrip(": "))
    return {"started": started, "at": at, "stage": found["stage"], "local": found["local"], **outcome}


def sockets_of(client):
    """The sockets of a client's connections, from its streams in httpcore."""
    pool = client._transport._pool
    streams = [connection._connection._network_stream for connection in pool.connections]
    return [stream.get_extra_info("socket") for stream in streams]


async def until_closed(hold, sock):
    """The request was released and is not written yet: httpcore found its connection open. Now the server closes it; a
    `busy` thread does not notice, an event loop that runs `on` does."""
    if hold == "busy":
        select.select([sock], [], [], NO_TIMEOUT_SECONDS)
        return
    while not select.select([sock], [], [], 0)[0]:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)


async def httpx_request(command, index):
    ids = {"id": command["id"], "index": index}
    say(event="end", **await by_httpx(command, ids), **ids)


async def with_retry(command, index):
    """gaia-web's `post_with_retry`, with waits of its caller's choice: retries after `ConnectError`,
    `RemoteProtocolError` and 502, 503, 504, then asks the fallback once, and raises the primary's last error if that
    fails as well. After a lasting status it uses the fallback only with "statuses", as `ServiceClient` does."""
    ids = {"id": command["id"], "index": index}
    plan = command["retry"]

    async def attempt(url):
        outcome = await by_httpx(command, ids, url)
        if outcome["class"] == "none" and outcome["status"] >= 400:
            outcome["class"] = "HTTPStatusError"
        say(event="attempt", **outcome, **ids)
        return outcome

    for wait in [*plan["waits"], None]:
        seen = await attempt(command["url"])
        dropped = seen["class"] in ("ConnectError", "RemoteProtocolError")
        answered = seen["class"] == "HTTPStatusError" and seen["status"] in (502, 503, 504)
        if not (dropped or answered):
            break
        if wait is not None:
            await asyncio.sleep(wait)
    else:
        if plan.get("fallback") and (dropped or plan.get("statuses")):
            other = await attempt(plan["fallback"])
            if other["class"] == "none":
                seen = other
            else:
                log(f"HA fallback POST {plan['fallback']} also failed ({other['class']}). Raising original error.")
    say(event="end", **{**seen, "at": time.time_ns()}, **ids)


async def reused(command, index):
    """Makes a connection, keeps it, and sends a second request over it after a varying time."""
    ids = {"id": command["id"], "index": index}
    plan = command["reuse"]
    kept = {**command, "session": f"{command['id']}-{index}"}
    await by_httpx(kept, ids)
    share = index / max(1, command["count"] - 1)
    await asyncio.sleep(plan["after"] + plan["spread"] * (2 * share - 1))
    outcome = await by_httpx({**kept, "hold": plan.get("hold")}, ids)
    say(event="end", **outcome, **ids)
    await sessions.pop(kept["session"]).aclose()


def requests_request(command, index):
    import requests

    ids = {"id": command["id"], "index": index}
    outcome = {"class": "none", "errno": None, "status": None, "bytes": 0, "message": ""}
    plan = command.get("upload")
    started = time.time_ns()
    say(event="sent", at=started, local=None, **ids)
    try:
        with requests.Session() as session:
            session.trust_env = False
            answer = session.request(
                command.get("method", "POST" if plan else "GET"),
                command["url"],
                data=b"u" * plan["bytes"] if plan else None,
                timeout=command.get("timeout") or NO_TIMEOUT_SECONDS,
                stream=True,
            )
            outcome["status"] = answer.status_code
            say(event="begun", status=answer.status_code, at=time.time_ns(), local=None, **ids)
            for piece in answer.iter_content(None):
                outcome["bytes"] += len(piece)
        at = time.time_ns()
    except Exception as error:
        at = time.time_ns()
        outcome.update({"class": type(error).__name__, "errno": errno_of(error), "message": str(error)})
    say(event="end", started=started, at=at, stage=None, local=None, **outcome, **ids)


async def look_up(command):
    ids = {"id": command["id"], "index": 0}
    outcome = {"class": "none", "errno": None, "message": ""}
    started = time.time_ns()
    try:
        found = await asyncio.get_running_loop().getaddrinfo(command["look_up"], 80, type=socket.SOCK_STREAM)
        outcome["message"] = found[0][4][0]
    except OSError as error:
        outcome.update({"class": type(error).__name__, "errno": errno_of(error), "message": str(error)})
    say(event="end", started=started, at=time.time_ns(), stage="resolve", local=None, status=None, bytes=0, **outcome, **ids)


async def main():
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=1 << 20)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    say(event="ready", at=time.time_ns())
    running = set()
    while line := await reader.readline():
        command = json.loads(line)
        for index in range(command.get("count", 1)):
            if "look_up" in command:
                work = look_up(command)
            elif "close" in command:
                work = sessions.pop(command["close"]).aclose()
            elif "retry" in command:
                work = with_retry(command, index)
            elif "reuse" in command:
                work = reused(command, index)
            elif command.get("library") == "requests":
                work = asyncio.to_thread(requests_request, command, index)
            else:
                work = httpx_request(command, index)
            task = asyncio.create_task(work)
            running.add(task)
            task.add_done_callback(running.discard)
    for task in list(running):
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


asyncio.run(main())
