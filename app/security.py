"""Which requests are accepted: those of the studio's own pages, and of programs on this computer.

Any web page that the user visits can send requests to 127.0.0.1. So every request, GET included, is checked:

    Host              must be 127.0.0.1, localhost or [::1]        (a foreign name that resolves here is refused)
    Sec-Fetch-Site    if the browser sends it: same-origin or none (following a link to a page is allowed)
    Origin            if it is sent: the studio's own

A body has at most a megabyte, except for uploads (PUT), whose routes enforce their own limits. There is no CORS and no
cookie.
Source of the scheme: Go 1.25's CrossOriginProtection and datasette's csrf.py.
"""

from __future__ import annotations

import json

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

BODY_BYTES_AT_MOST = 2**20
HOSTS = ("127.0.0.1", "localhost", "[::1]")

FOREIGN = "This request came from another page and was refused."

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; "
        "frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class Guard:
    """ASGI middleware: refuses foreign requests and large bodies, and adds the security headers to responses."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        received = 0

        async def receive_limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > BODY_BYTES_AT_MOST:
                raise HTTPException(413)
            return message

        trouble = trouble_with(scope["method"], scope.get("scheme", "http"), Headers(scope=scope))
        if trouble:
            await _refuse(send_guarded, trouble)
        else:
            await self.app(scope, receive if scope["method"] == "PUT" else receive_limited, send_guarded)


def trouble_with(method: str, scheme: str, headers: Headers) -> str:
    """Why a request is refused, or ""."""
    host = headers.get("host", "")
    if _name_of(host) not in HOSTS:
        return "The studio only answers at http://127.0.0.1 and http://localhost."
    site = headers.get("sec-fetch-site")
    opens_page = (
        method in ("GET", "HEAD")
        and headers.get("sec-fetch-mode") == "navigate"
        and headers.get("sec-fetch-dest") == "document"
    )
    if site is not None and site not in ("same-origin", "none") and not opens_page:
        return FOREIGN
    origin = headers.get("origin")
    if origin is None or (origin == "null" and site == "same-origin"):  # a form under "no-referrer" sends "null"
        return ""
    return "" if origin.lower() == f"{scheme}://{host}".lower() else FOREIGN


def _name_of(host: str) -> str:
    """The name in a Host header, without the port."""
    name, colon, port = host.rpartition(":")
    if not colon or host.endswith("]"):
        return host.lower()
    return name.lower() if port.isdigit() else ""


async def _refuse(send: Send, message: str) -> None:
    body = json.dumps({"error": {"code": "forbidden", "message": message, "problems": []}}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": body})
