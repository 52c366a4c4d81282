"""The lifespan protocol, without a server."""

import asyncio
import logging
from typing import Any

import pytest

import tako
from tako import ConfigError
from tako.asgi import AsgiApp, LifespanError, from_router
from tests.support.asgi_apps import Receive, Scope, Send


RUNTIMES = ["asyncio", "trio"]


def live(runtime: str, app: Any, mode: str = "auto", body: Any = None) -> None:
    """Run the lifespan of ``app`` around ``body``."""

    async def main() -> None:
        async with AsgiApp(app, lifespan=mode).lifespan():
            if body is not None:
                await body()

    tako.run(main, runtime=runtime)


@pytest.mark.parametrize("runtime", RUNTIMES)
class TestLifespan:
    def test_startup_and_shutdown_in_order(self, runtime: str) -> None:
        log: list[str] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            assert scope["type"] == "lifespan"
            assert scope["asgi"] == {"version": "3.0", "spec_version": "2.0"}
            for _ in range(2):
                event = await receive()
                log.append(event["type"])
                await tako.sleep(0)
                await send({"type": event["type"] + ".complete"})
            log.append("end")

        async def body() -> None:
            log.append("serving")

        live(runtime, app, "on", body)
        startup, shutdown = "lifespan.startup", "lifespan.shutdown"
        assert log == [startup, "serving", shutdown, "end"]

    @pytest.mark.parametrize("mode", ["auto", "on"])
    def test_a_failure_says_what_the_app_says(self, runtime: str, mode: str) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            await send({"type": "lifespan.startup.failed", "message": "no database"})
            raise RuntimeError

        with pytest.raises(LifespanError, match=r"^no database$"):
            live(runtime, app, mode)

    def test_an_app_that_knows_nothing_of_it_is_served(self, runtime: str) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            msg = "what is that?"
            raise KeyError(msg)

        served: list[bool] = []

        async def body() -> None:
            served.append(True)

        live(runtime, app, "auto", body)
        assert served
        with pytest.raises(LifespanError, match="KeyError: 'what is that"):
            live(runtime, app, "on")

    def test_an_app_that_returns_at_once(self, runtime: str) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            return

        live(runtime, app, "auto")
        with pytest.raises(LifespanError, match="does not support lifespan"):
            live(runtime, app, "on")

    def test_off_does_not_ask(self, runtime: str) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            raise AssertionError

        live(runtime, app, "off")

    def test_a_failing_shutdown_is_logged(
        self, runtime: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.failed", "message": "stuck"})

        live(runtime, app)
        assert "lifespan shutdown failed: stuck" in caplog.text

    def test_events_out_of_order_are_the_apps_mistake(self, runtime: str) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            await send({"type": "lifespan.shutdown.complete"})

        with pytest.raises(LifespanError, match="EventError"):
            live(runtime, app, "on")

    def test_a_lifespan_that_fails_while_serving_is_logged(
        self, runtime: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            await send({"type": "lifespan.startup.complete"})
            msg = "in the background"
            raise ValueError(msg)

        async def body() -> None:
            await tako.sleep(0.01)

        with caplog.at_level(logging.ERROR):
            live(runtime, app, "on", body)
        assert "the app's lifespan failed" in caplog.text


def test_a_cancelled_server_cancels_the_app() -> None:
    cancelled: list[bool] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        try:
            await receive()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    async def forever() -> None:
        async with AsgiApp(app).lifespan():
            await asyncio.Event().wait()

    async def main() -> None:
        task = asyncio.create_task(forever())
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait({task})

    asyncio.run(main())
    assert cancelled


def test_a_second_listener_shares_the_first_ones_lifespan() -> None:
    starts: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        starts.append(await receive())
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})

    async def main() -> None:
        hosted = AsgiApp(app)
        async with hosted.lifespan(), hosted.lifespan():
            assert len(starts) == 1

    asyncio.run(main())


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"lifespan": "maybe"}, ConfigError),
        ({"root_path": "no-slash"}, ConfigError),
        ({"max_message_size": 0}, ConfigError),
        ({"compression": "yes"}, TypeError),
    ],
)
def test_options_are_checked(options: dict[str, Any], error: type[Exception]) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError

    with pytest.raises(error):
        AsgiApp(app, **options)


def test_what_is_no_app_and_what_is_no_router() -> None:
    with pytest.raises(TypeError, match="takes an ASGI app"):
        AsgiApp("app")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="takes a Router"):
        from_router("router")  # type: ignore[arg-type]


def test_a_request_without_a_connection_is_refused() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError

    with pytest.raises(RuntimeError, match="over a connection"):
        AsgiApp(app)(tako.Request.build()).send(None)


def test_a_router_that_cannot_be_prepared_fails_its_lifespan() -> None:
    class Plugin:
        name = "broken"

        def setup(self, router: tako.Router) -> None:
            msg = "no settings"
            raise KeyError(msg)

    router = tako.Router()
    router.plugin(Plugin())
    with pytest.raises(LifespanError, match="KeyError: 'no settings'"):
        live("asyncio", from_router(router))


def test_a_router_has_no_use_for_other_scopes() -> None:
    app = from_router(tako.Router())
    with pytest.raises(ValueError, match="'mqtt'"):
        app({"type": "mqtt"}, None, None).send(None)  # type: ignore[arg-type]
