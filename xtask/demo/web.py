"""gaia-web of the demo: a FastAPI service that posts to gaia-core as GAIA's own does.

The policy in `post_with_retry` is GAIA's: three attempts, waits of 2 s and 4 s, retried on ConnectError and
RemoteProtocolError (and on 502, 503, 504), then the fallback once. ReadError and every timeout are not retried.
If the fallback fails as well, the primary's error is raised: the caller never receives the candidate's.
"""

import asyncio
import http.client
import logging
import os
import select
import time

import httpx
from fastapi import FastAPI
from fastapi.responses import JSONResponse

logging.Formatter.converter = time.gmtime
logging.basicConfig(format="%(asctime)s.%(msecs)03dZ %(levelname)s %(message)s", datefmt="%Y-%m-%dT%H:%M:%S")
log = logging.getLogger("gaia-web")
log.setLevel(logging.INFO)

CORE = os.environ["CORE_ENDPOINT"]
CORE_FALLBACK = os.environ["CORE_FALLBACK_ENDPOINT"]
ATTEMPTS = 3
TIMEOUT = float(os.environ.get("GAIA_TIMEOUT", "300"))
WAITS = (2.0, 4.0)
RETRIED = (httpx.ConnectError, httpx.RemoteProtocolError)
RETRIED_STATUS = (502, 503, 504)

app = FastAPI()


def named(error: Exception) -> str:
    """Class and message of an error: str() of a ReadError is empty."""
    return f"{type(error).__name__}: {error}".rstrip(": ")


async def post(url: str, content: bytes) -> httpx.Response:
    """One request on a connection of its own."""
    async with httpx.AsyncClient(timeout=TIMEOUT) as client:
        response = await client.post(url, content=content)
        response.raise_for_status()
        return response


async def post_with_retry(path: str, content: bytes) -> httpx.Response:
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return await post(CORE + path, content)
        except RETRIED as error:
            last = error
        except httpx.HTTPStatusError as error:
            if error.response.status_code not in RETRIED_STATUS or attempt == ATTEMPTS:
                raise
            last = error
        log.warning("attempt %d/%d POST %s failed (%s)", attempt, ATTEMPTS, CORE + path, named(last))
        if attempt < ATTEMPTS:
            await asyncio.sleep(WAITS[attempt - 1])
    log.warning("HA fallback POST %s", CORE_FALLBACK + path)
    try:
        return await post(CORE_FALLBACK + path, content)
    except httpx.HTTPError as error:
        log.warning(
            "HA fallback POST %s also failed (%s). Raising original error.",
            CORE_FALLBACK + path, type(error).__name__, exc_info=True,
        )
    raise last


def post_twice_on_one_connection(path: str, content: bytes) -> None:
    """A client that reuses its connection without checking it first, as many pools do.

    The second request is sent just after the server's idle timeout has closed the connection. The client waits for that
    moment, which real traffic meets only by chance.
    """
    host = httpx.URL(CORE)
    connection = http.client.HTTPConnection(host.host, host.port, timeout=TIMEOUT)
    connection.request("POST", path, content)
    connection.getresponse().read()
    log.info("response received; the connection is kept for the next request")
    select.select([connection.sock], [], [])
    log.info("next request on the kept connection")
    try:
        connection.request("POST", path, content)
        connection.getresponse().read()
    except (OSError, http.client.HTTPException) as error:
        # A broken pipe, a reset, or "remote end closed", depending on the system call that the reset interrupts.
        raise ConnectionError(f"the kept connection was closed ({type(error).__name__})") from error


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.post("/kept/{name}")
def kept(name: str, size: int = 64):
    """Sends two requests of `size` bytes to gaia-core on one connection."""
    try:
        post_twice_on_one_connection(f"/{name}", b"x" * size)
    except ConnectionError as error:
        log.exception("POST %s/%s failed (%s)", CORE, name, type(error).__name__)
        return JSONResponse({"error": type(error).__name__, "detail": str(error)}, status_code=500)
    return {"answer": "done"}


@app.post("/call/{name}")
async def call(name: str, size: int = 64):
    """Forwards a request of `size` bytes to gaia-core."""
    try:
        response = await post_with_retry(f"/{name}", b"x" * size)
    except httpx.HTTPError as error:
        log.exception("POST %s/%s failed (%s)", CORE, name, type(error).__name__)
        return JSONResponse({"error": type(error).__name__, "detail": str(error)}, status_code=500)
    return response.json()
