"""The endpoint: OpenAI's /v1/models and /v1/completions, /health, and /metrics for Prometheus.

Everything that a client can do wrong is answered by a status of 4xx and an error of OpenAI's form. A body
must say that it is JSON, which a page of another site cannot without being asked back; and on this machine
alone, a name that such a page has pointed here is refused.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeAlias

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from evaluators.tokens.vocabulary import Vocabulary
from foundation.errors import EvaluationFailed, SettingError, UnknownName
from foundation.files import parse_json
from nas.executors.node_settings import LOOPBACK
from nas.serving.answers import Answers
from nas.serving.metrics import Metrics
from nas.serving.protocol import Malformed, problem, read_body
from nas.serving.requests import Closing, QueueFull, TooLong
from nas.serving.worker import Worker

MOST_BYTES = 2**23
"""The largest body that is read."""

RETRY_SECONDS = 1
PATHS = ("/v1/completions", "/v1/models", "/health", "/metrics")
LOCAL = (LOOPBACK, "localhost")

Endpoint: TypeAlias = Callable[[Request], Awaitable[Response]]


class App:
    """What the routes share."""

    def __init__(self, worker: Worker, model: str, vocabulary: Vocabulary) -> None:
        self.worker, self.model, self.vocabulary = worker, model, vocabulary
        self.names = (model, *worker.engine.adapters.adapters)
        self.metrics_page, self.created = Metrics(worker.engine), int(time.time())

    def starlette(self, host: str = LOOPBACK) -> Starlette:
        """The application, for a server that listens at this address."""
        local = [Middleware(TrustedHostMiddleware, allowed_hosts=list(LOCAL))] if host in LOCAL else []
        return Starlette(
            routes=[
                Route("/v1/models", self.models),
                Route("/v1/models/{name:path}", self.one_model),
                Route("/v1/completions", refusing(self.completions), methods=["POST"]),
                Route("/v1/chat/completions", self.no_chat, methods=["POST"]),
                Route("/health", self.health),
                Route("/metrics", self.metrics),
            ],
            middleware=local,
            exception_handlers={HTTPException: _http_error, Exception: _fault},
            lifespan=self._lifespan,
        )

    async def models(self, request: Request) -> Response:
        """The base and its adapters."""
        return JSONResponse({"object": "list", "data": list(map(self._described, self.names))})

    async def one_model(self, request: Request) -> Response:
        """The model of a name."""
        name = request.path_params["name"]
        if name not in self.names:
            return _refusal(404, f"there is no model {name!r}", code="model_not_found")
        return JSONResponse(self._described(name))

    async def completions(self, request: Request) -> Response:
        """Continue the prompts of a body, at once or as a stream."""
        body = await _json(request)
        asked = await run_in_threadpool(read_body, body, self.names, self.vocabulary)
        answers = Answers(self.worker, asked, self.model, self.vocabulary)
        if asked.stream:
            return StreamingResponse(answers.events(), media_type="text/event-stream")
        try:
            return JSONResponse(await _unless_left(request, answers))
        finally:
            answers.close()

    async def no_chat(self, request: Request) -> Response:
        """Where to go instead: networks here have no template that makes one text of messages."""
        return _refusal(
            404,
            "there is no /v1/chat/completions here, for networks have no chat template: write the messages as"
            " one text, and post it as the prompt of /v1/completions",
            code="no_chat_template",
        )

    async def health(self, request: Request) -> Response:
        """Whether requests are answered."""
        alive = self.worker.alive
        return JSONResponse({"status": "ok" if alive else "stopping"}, 200 if alive else 503)

    async def metrics(self, request: Request) -> Response:
        """Counts for Prometheus."""
        page, kind = self.metrics_page.page(request.headers.get("accept", ""))
        return Response(page, headers={"content-type": kind})

    def _described(self, name: str) -> dict[str, object]:
        plain = {"id": name, "object": "model", "created": self.created, "owned_by": "nas"}
        return plain if name == self.model else plain | {"parent": self.model}

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        self.worker.start()
        try:
            yield
        finally:
            await run_in_threadpool(self.worker.stop)


def refusing(endpoint: Endpoint) -> Endpoint:
    """An endpoint whose errors are answers."""

    async def answered(request: Request) -> Response:
        try:
            return await endpoint(request)
        except QueueFull as error:
            return _refusal(429, f"{error}: try again later", "rate_limit_error", "queue_full")
        except Closing as error:
            return _refusal(503, str(error), "server_error", "stopping")
        except UnknownName as error:
            return _refusal(404, str(error), code="model_not_found", param="model")
        except TooLong as error:
            return _refusal(400, str(error), code="context_length_exceeded", param="max_tokens")
        except Malformed as error:
            return _refusal(400, str(error), param=error.param)
        except SettingError as error:
            return _refusal(400, str(error), param="prompt")
        except EvaluationFailed as error:
            return _refusal(500, str(error), "server_error")
        except ClientDisconnect:
            return Response(status_code=499)

    return answered


async def _json(request: Request) -> object:
    """The body of a request.

    Raises:
        HTTPException: it is too large, or says that it is no JSON.
        Malformed: it is no JSON.
    """
    if request.headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
        raise HTTPException(415, "the content type must be application/json")
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > MOST_BYTES:
            raise HTTPException(413, f"a body may have {MOST_BYTES:,} bytes")
    try:
        return await run_in_threadpool(parse_json, content.decode("utf-8"))
    except ValueError as error:
        raise Malformed(f"the body is no JSON: {error}") from None


async def _unless_left(request: Request, answers: Answers) -> dict[str, object]:
    """The whole answer, unless its client leaves before.

    Raises:
        ClientDisconnect: it has.
        EvaluationFailed: as `Answers.whole`.
    """
    answer = asyncio.ensure_future(answers.whole())
    left = asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait({answer, left}, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise ClientDisconnect
        return answer.result()
    finally:
        answer.cancel()
        left.cancel()


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _refusal(
    status: int,
    message: str,
    kind: str = "invalid_request_error",
    code: str | None = None,
    *,
    param: str | None = None,
) -> Response:
    headers = {"retry-after": str(RETRY_SECONDS)} if status in (429, 503) else None
    return JSONResponse(problem(message, kind, code, param), status, headers)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    detail = str(error.detail)
    if error.status_code == 404:
        detail = f"there is no {request.url.path:.80} here: {', '.join(PATHS)}"
    return _refusal(error.status_code, detail)


async def _fault(request: Request, error: Exception) -> Response:
    """A bug of ours: it goes on to the log, and not to the client."""
    return _refusal(500, "the server has failed", "server_error")
