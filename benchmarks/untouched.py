"""What the middleware costs a request that is no upload."""

from __future__ import annotations

import os
import timeit
from typing import Any

from .clock import Clock
from .rows import OURS, Figures, Line, Place, Reach, Row
from .scale import Scale

__all__ = ["UntouchedRow", "rows"]

BARE = "the bare application"
REPEATS = 15  # of which the fastest counts: the others were disturbed
HOSTS = 3


def _of_get(figures: Figures) -> float:
    return float(figures["get"])


def _of_post(figures: Figures) -> float:
    return float(figures["post"])


class UntouchedRow(Row):
    key = "no-upload"
    title = "a request that is no upload"
    hosts = HOSTS
    lines = (
        Line(BARE, _of_get, "us a GET", Reach("<=", 3.0), how="minus"),
        Line(BARE, _of_post, "us a POST of JSON", Reach("<=", 3.0), how="minus"),
    )

    def __init__(self, scale: Scale) -> None:
        super().__init__(scale)
        self.says = (
            f"Microseconds of one call of the application, the fastest of {REPEATS} timings of {scale.calls:,} calls, "
            "with the middleware and 3 hosts, and without; not a server's or a framework's own time."
        )
        self.calls = {OURS: f"{__name__}:wrapped", BARE: f"{__name__}:bare"}

    def arguments(self, side: str, place: Place, folder: str) -> dict[str, Any]:
        middleware = {"root": os.path.join(folder, "master"), "hosts": place.hosts(HOSTS)} if side == OURS else {}
        return {"calls": self.scale.calls, **middleware}

    def problems(self, side: str, figures: Figures, place: Place, folder: str) -> list[str]:
        return [] if figures["answered"] else ["the answer was not the application's"]


def rows(scale: Scale) -> list[Row]:
    return [UntouchedRow(scale)]


ANSWER = [b"ok"]


def _application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return ANSWER


def _time(application: Any, calls: int) -> dict[str, Any]:
    environ = {"SCRIPT_NAME": "", "PATH_INFO": "/", "QUERY_STRING": "", "HTTP_HOST": "127.0.0.1"}
    get = {**environ, "REQUEST_METHOD": "GET"}
    post = {**environ, "REQUEST_METHOD": "POST", "CONTENT_TYPE": "application/json", "CONTENT_LENGTH": "0"}
    started: list[str] = []
    answered = all(application(each, lambda status, _: started.append(status)) is ANSWER for each in (get, post))
    names = {"application": application, "start_response": lambda status, headers: None}
    with Clock() as clock:
        best = {
            key: min(
                timeit.repeat("application(e, start_response)", globals={**names, "e": e}, repeat=REPEATS, number=calls)
            )
            for key, e in (("get", get), ("post", post))
        }
    microseconds = {key: 1e6 * value / calls for key, value in best.items()}
    return clock.figures(2 * REPEATS * calls, **microseconds, answered=answered and started == ["200 OK"] * 2)


def wrapped(calls: int, root: str, hosts: list[str]) -> dict[str, Any]:
    from resto_wsgi import UploadMiddleware

    os.makedirs(root)
    middleware = UploadMiddleware(_application, media_root=root, media_hosts=hosts, publish="on_success")
    try:
        return _time(middleware, calls)
    finally:
        middleware.replicator.close()


def bare(calls: int) -> dict[str, Any]:
    return _time(_application, calls)
