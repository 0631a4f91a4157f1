"""The server: a page without script, and the same answers as JSON. It binds to this machine, and decodes nothing but images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from clipzoo.errors import ClipzooError
from clipzoo.serving.service import Question, Service
from clipzoo.serving.words import words_of
from clipzoo.text import visible

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src data:; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # with "no-referrer", a browser gives its own form the origin "null"
    "Cache-Control": "no-store",
}


def make_app(service: Service, *, hosts: list[str], language: str | None = None) -> Starlette:
    """The application.

    Args:
        service: What answers.
        hosts: Names by which browsers may address the server: other names are refused, so that a foreign page cannot reach it under a
            name of its own (DNS rebinding).
        language: Language of the page; ``None`` follows the browser.
    """
    pages = _Pages(service, language)
    routes = [
        Route("/", pages.form, methods=["GET"]),
        Route("/", pages.answer, methods=["POST"]),
        Route("/api/model", pages.model, methods=["GET"]),
        Route("/api/predict", pages.predict, methods=["POST"]),
    ]
    middleware = [
        Middleware(TrustedHostMiddleware, allowed_hosts=hosts),
        Middleware(_SameOrigin),
        Middleware(_BodyLimit, most=service.limits.body_bytes),
    ]
    return Starlette(routes=routes, middleware=middleware, exception_handlers={HTTPException: pages.refused})


class _Pages:
    """The handlers of all routes."""

    def __init__(self, service: Service, language: str | None):
        from jinja2 import Environment, FileSystemLoader, StrictUndefined

        self._service, self._language = service, language
        loader = FileSystemLoader(Path(__file__).parent)
        environment = Environment(
            autoescape=True, loader=loader, undefined=StrictUndefined, finalize=lambda v: visible(v, keep="\n") if isinstance(v, str) else v
        )
        self._template = environment.get_template("page.html.jinja")

    async def form(self, request: Request) -> Response:
        """The empty form."""
        return self._page(request)

    async def answer(self, request: Request) -> Response:
        """The form with its answer, or with what is wrong."""
        texts = ""
        try:
            question, texts = await self._question(request)
            found = await run_in_threadpool(self._service.answer, question)
        except ClipzooError as error:
            return self._page(request, status=400, error=str(error), texts=texts)
        return self._page(request, found=found, texts=texts)

    async def model(self, request: Request) -> Response:
        """The model, its classes and the limits."""
        return JSONResponse(self._service.describe(), headers=_HEADERS)

    async def predict(self, request: Request) -> Response:
        """The answer as JSON, or ``{"error": …}`` with status 400."""
        try:
            question, _ = await self._question(request)
            return JSONResponse(await run_in_threadpool(self._service.answer, question), headers=_HEADERS)
        except ClipzooError as error:
            return JSONResponse({"error": str(error)}, status_code=400, headers=_HEADERS)

    async def refused(self, request: Request, error: Exception) -> Response:
        """What Starlette refuses: unknown addresses, other methods, too many parts."""
        assert isinstance(error, HTTPException)
        if request.url.path.startswith("/api/"):
            return JSONResponse({"error": error.detail}, status_code=error.status_code, headers=_HEADERS)
        return self._page(request, status=error.status_code, error=error.detail)

    async def _question(self, request: Request) -> tuple[Question, str]:
        limits = self._service.limits
        most = limits.texts * limits.characters
        async with request.form(max_files=limits.images + 1, max_fields=limits.texts + 3, max_part_size=most) as form:
            files = [item for item in form.getlist("images") if isinstance(item, UploadFile) and (item.filename or item.size)]
            images = [(item.filename or "image", await item.read()) for item in files]
            texts = "\n".join(item for item in form.getlist("texts") if isinstance(item, str)).replace("\r\n", "\n")
            explains = form.get("explain", "1") in ("1", "on", "true", "yes")
        return Question(images, texts.splitlines(), explains), texts

    def _page(self, request: Request, *, status: int = 200, found: dict | None = None, error: str = "", texts: str = "") -> Response:
        words = words_of(self._language or request.headers.get("accept-language", ""))
        content: dict[str, Any] = {"words": words, "found": found, "error": error, "texts": texts, "service": self._service.describe()}
        return HTMLResponse(self._template.render(content), status_code=status, headers=_HEADERS)


class _SameOrigin:
    """Refuses forms that another site sends: the browser names it in the header Origin."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name: value.decode("latin-1") for name, value in scope.get("headers", ())}
        origin, host = headers.get(b"origin"), headers.get(b"host", "")
        if scope["type"] == "http" and scope["method"] == "POST" and origin is not None and origin.partition("://")[2] != host:
            await _plain(403, "requests from other sites are refused")(scope, receive, send)
            return
        await self._app(scope, receive, send)


class _BodyLimit:
    """Refuses a request whose body is larger than ``most`` bytes: before it is read if it says so, otherwise as soon as it is."""

    def __init__(self, app: ASGIApp, most: int):
        self._app, self._most = app, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refusal = _plain(413, f"the request is larger than {self._most / 1e6:g} MB. Send fewer or smaller images")
        stated = dict(scope["headers"]).get(b"content-length", b"0")
        if not stated.isdigit() or int(stated) > self._most:
            await refusal(scope, receive, send)
            return
        read = 0

        async def counted() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self._most:
                raise _TooLarge
            return message

        try:
            await self._app(scope, counted, send)
        except _TooLarge:
            await refusal(scope, receive, send)


class _TooLarge(Exception):
    """The body exceeds the limit."""


def _plain(status: int, text: str) -> Response:
    return JSONResponse({"error": text}, status_code=status, headers={**_HEADERS, "Connection": "close"})
