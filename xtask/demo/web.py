"""gaia-web of the demo: a FastAPI service whose handler posts to gaia-core the way GAIA's own does.

The policy in `post_with_retry` is GAIA's: three attempts, waits of 2 s and 4 s, retried on ConnectError and
RemoteProtocolError (and on 502, 503, 504), then the fallback once. ReadError and every timeout are not retried.
If the fallback fails as well, the primary's error is raised: the caller never sees the candidate's.
"""

import asyncio
import logging
import os
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
WAITS = (2.0, 4.0)
RETRIED = (httpx.ConnectError, httpx.RemoteProtocolError)
RETRIED_STATUS = (502, 503, 504)

app = FastAPI()


def named(error: Exception) -> str:
    """The class and what little it says: str() of a ReadError is empty."""
    return f"{type(error).__name__}: {error}".rstrip(": ")


async def post(url: str, content: bytes) -> httpx.Response:
    """One request on a connection of its own."""
    async with httpx.AsyncClient(timeout=300) as client:
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


@app.get("/health")
async def health():
    return {"status": "ok"}


@app.post("/call/{name}")
async def call(name: str, size: int = 64):
    """Passes a request of `size` bytes on to gaia-core."""
    try:
        response = await post_with_retry(f"/{name}", b"x" * size)
    except httpx.HTTPError as error:
        log.exception("POST %s/%s failed for good (%s)", CORE, name, type(error).__name__)
        return JSONResponse({"error": type(error).__name__, "detail": str(error)}, status_code=500)
    return response.json()
