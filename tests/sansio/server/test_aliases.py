"""``serve*_with_*`` pass on what they are given, and nothing else (spec 7.1)."""

import inspect
from typing import Any

import pytest

import tako
from tako.server import aliases


LISTENER, ROUTER, SIGNAL = object(), object(), object()
CONFIG = tako.ServerConfig()


@pytest.mark.parametrize("target", ["serve", "serve_tls", "serve_h2c"])
@pytest.mark.parametrize(
    ("suffix", "more"),
    [
        ("shutdown", {"shutdown": SIGNAL}),
        ("config", {"config": CONFIG}),
        ("shutdown_and_config", {"shutdown": SIGNAL, "config": CONFIG}),
    ],
)
def test_an_alias_calls_its_function(
    target: str, suffix: str, more: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    async def double(*args: object, **options: object) -> None:
        calls.append((args, options))

    monkeypatch.setattr(aliases, target, double)
    files = ("cert.pem", "key.pem") if target == "serve_tls" else ()
    alias = getattr(tako, f"{target}_with_{suffix}")
    coroutine = alias(LISTENER, ROUTER, *files, *more.values())
    with pytest.raises(StopIteration):
        coroutine.send(None)
    assert calls == [((LISTENER, ROUTER, *files), more)]


def test_every_one_of_them_is_public() -> None:
    made = {
        name
        for name, value in vars(aliases).items()
        if inspect.iscoroutinefunction(value) and "_with_" in name
    }
    assert len(made) == 9
    assert made <= set(tako.__all__)
