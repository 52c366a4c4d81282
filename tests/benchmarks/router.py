"""What finding a route costs, and dispatching to it: 1,000 routes, no socket.

Run from the project's root: ``python -m tests.benchmarks.router``. The handler is
empty, so ``dispatch`` is what the router adds to each request.
"""

import argparse
import time
from collections.abc import Callable, Coroutine

import tako
from tako import Headers, Request, Router


ROUTES = 1_000
_REQUESTS = 20_000
_BEST_OF = 5
_HEADERS = Headers([(b"host", b"localhost"), (b"accept", b"*/*")])

_SHAPES = {  # what is looked up: (a thousandth route, a path that it matches)
    "static": ("/api/v{}/users", "/api/v{}/users"),
    "parameter": ("/api/v{}/users/{{user}}", "/api/v{}/users/42"),
    "two parameters": ("/api/v{}/{{kind}}/{{id}}/edit", "/api/v{}/books/42/edit"),
    "catch-all": ("/files/v{}/{{*rest}}", "/files/v{}/a/b/c/d.txt"),
    "not found": ("/api/v{}/users", "/nothing/v{}"),
    "405": ("/api/v{}/users", "/api/v{}/users"),
}


async def _nothing() -> str:
    return ""


def router_of(pattern: str) -> Router:
    """Return a router with ``ROUTES`` routes like ``pattern``."""
    router = Router()
    for number in range(ROUTES):
        router.get(pattern.format(number), _nothing)
    return router


def finish(dispatch: Coroutine[object, object, object]) -> object:
    """Run ``dispatch`` to its end; an empty handler never waits for anything."""
    try:
        dispatch.send(None)
    except StopIteration as stop:
        return stop.value
    msg = "the dispatch waited"
    raise RuntimeError(msg)


def _best(run: Callable[[], None], units: int) -> float:
    """Return the microseconds per unit of the best of some runs."""
    best = float("inf")
    for _ in range(_BEST_OF):
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
    return best / units * 1e6


def dispatching(shape: str, requests: int = _REQUESTS) -> float:
    """Return the microseconds for one dispatch, to routes in turn."""
    pattern, path = _SHAPES[shape]
    router = router_of(pattern)
    method = "POST" if shape == "405" else "GET"
    paths = [path.format(number * 7 % ROUTES) for number in range(requests)]
    expected = {"not found": 404, "405": 405}.get(shape, 200)

    def run() -> None:
        for target in paths:
            request = Request(method, target, _HEADERS)
            response = finish(router.dispatch(request))
            assert isinstance(response, tako.Response)
            assert response.status == expected

    return _best(run, requests)


def making(requests: int = _REQUESTS) -> float:
    """Return the microseconds for making the request alone."""

    def run() -> None:
        for _ in range(requests):
            Request("GET", "/api/v1/users", _HEADERS)

    return _best(run, requests)


def main() -> None:
    """Print one line for each kind of route."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=_REQUESTS)
    requests = parser.parse_args().requests
    print(f"{ROUTES} routes, microseconds for one request:")
    print(f"{'making the request':30} {making(requests):7.2f}")
    for shape in _SHAPES:
        print(f"{f'and dispatching: {shape}':30} {dispatching(shape, requests):7.2f}")


if __name__ == "__main__":
    main()
