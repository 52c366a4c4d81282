"""A server's start and end: what ``shutdown=`` may be, and lifespans that hang."""

import contextlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import pytest

import tako
from tako import Router, ServerConfig
from tako.asgi import AsgiApp
from tako.server.lifetime import Lifetime
from tako.server.service import Endpoint
from tests.support.apps import giving_up_after, together
from tests.support.loops import run_on
from tests.support.server import Gate, RuntimeName, cancelled_by


LIMIT = 60.0
"""Seconds for a test; the drains here could take longer if they waited."""

LOCAL = "127.0.0.1:0"
LONG = ServerConfig(drain_timeout=1000)
SHORT = ServerConfig(drain_timeout=0.2)


def run(runtime: RuntimeName, main: Callable[[], Awaitable[object]]) -> None:
    """Run ``main`` within the limit."""

    async def limited() -> None:
        ended = False
        async with giving_up_after(LIMIT):
            await main()
            ended = True
        assert ended, "the server does not end"

    run_on(runtime, limited)


class Hanging:
    """An ASGI app that hangs in its lifespan, ``stubborn`` cancellations long."""

    def __init__(self, phase: str, *, stubborn: int = 0) -> None:
        self.phase = phase
        self.stubborn = stubborn
        self.seen: list[str] = []
        self.entered = Gate()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        while True:
            phase = (await receive())["type"].partition(".")[2]
            self.seen.append(phase)
            if phase == self.phase:
                self.entered.open()
                await self.hang()
            await send({"type": f"lifespan.{phase}.complete"})
            if phase == "shutdown":
                return

    async def hang(self) -> None:
        while True:
            try:
                await tako.sleep(LIMIT * 2)
            except BaseException as error:
                self.seen.append(type(error).__name__)
                if isinstance(error, GeneratorExit):
                    raise
                self.stubborn -= 1
                if self.stubborn < 0:
                    raise


def cancelled(names: list[str]) -> bool:
    return any(name in {"CancelledError", "Cancelled"} for name in names)


class TestShutdownArgument:
    @pytest.mark.parametrize("form", ["coroutine", "function", "event"])
    @pytest.mark.parametrize("outcome", ["returns", "raises"])
    def test_each_form_and_each_outcome_drains(
        self,
        runtime: RuntimeName,
        caplog: pytest.LogCaptureFixture,
        form: str,
        outcome: str,
    ) -> None:
        async def signal() -> None:
            await tako.sleep(0)
            if outcome == "raises":
                msg = "broken signal"
                raise ValueError(msg)

        class Event:
            wait = staticmethod(signal)

        async def main() -> None:
            shutdown: Any = {"function": signal, "event": Event()}.get(form)
            await tako.serve(LOCAL, Router(), shutdown=shutdown or signal())

        with caplog.at_level(logging.INFO):
            run(runtime, main)
        texts = [record.message for record in caplog.records]
        assert "Shutdown signal received, draining connections..." in texts
        assert texts[-1] == "Server shut down gracefully"
        assert ("broken signal" in caplog.text) is (outcome == "raises")

    def test_something_else_is_logged_and_drains(
        self, runtime: RuntimeName, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def main() -> None:
            await tako.serve(LOCAL, Router(), shutdown=42)

        run(runtime, main)
        assert "not int" in caplog.text


class TestStart:
    def test_one_that_hangs_is_cancelled_by_shutdown(
        self, runtime: RuntimeName, caplog: pytest.LogCaptureFixture
    ) -> None:
        app = Hanging("startup")

        async def main() -> None:
            await tako.serve(
                LOCAL, AsgiApp(app), shutdown=app.entered.wait, config=LONG
            )

        run(runtime, main)
        assert app.seen[0] == "startup"
        assert cancelled(app.seen)
        assert "shutdown" not in app.seen
        assert "stopped while starting" in caplog.text

    def test_one_that_hangs_is_cancelled_by_a_handle(
        self, runtime: RuntimeName
    ) -> None:
        app = Hanging("startup")

        async def main() -> None:
            with await tako.bind(LOCAL) as listener:
                lifetime = Lifetime(listener, AsgiApp(app), Endpoint(), LONG)

                async def stop() -> None:
                    await app.entered.wait()
                    lifetime.stop()

                await together(lifetime.run, stop)

        run(runtime, main)
        assert cancelled(app.seen)

    def test_a_stop_before_it_begins_serves_nothing(self, runtime: RuntimeName) -> None:
        app = Hanging("startup")

        async def main() -> None:
            with await tako.bind(LOCAL) as listener:
                lifetime = Lifetime(listener, AsgiApp(app), Endpoint(), LONG)
                lifetime.stop()
                await lifetime.run()

        run(runtime, main)

    def test_one_that_hangs_is_cancelled_with_the_block(
        self, runtime: RuntimeName
    ) -> None:
        app = Hanging("startup")

        async def block() -> None:
            async with tako.serve(LOCAL, AsgiApp(app), config=LONG):
                app.seen.append("the block began")

        run(runtime, lambda: cancelled_by(app.entered, block))
        assert cancelled(app.seen)
        assert "the block began" not in app.seen

    def test_one_that_ignores_its_cancellation_is_named_in_the_log(
        self, runtime: RuntimeName, caplog: pytest.LogCaptureFixture
    ) -> None:
        """On asyncio the server leaves it; trio cannot, so it waits for its end."""
        app = Hanging("startup", stubborn=1 << 30)
        if runtime == "trio":
            app.hang = held  # type: ignore[method-assign]

        async def main() -> None:
            await tako.serve(LOCAL, AsgiApp(app), shutdown=app.entered.wait)

        run(runtime, main)
        assert "go on though cancelled for 3 s" in caplog.text


async def held() -> None:
    """Sleep for four seconds on trio, whatever is cancelled."""
    import trio

    with trio.CancelScope(shield=True):
        await trio.sleep(4)


class TestEnd:
    @pytest.mark.parametrize("how", ["await", "block", "drain(timeout)"])
    def test_one_that_hangs_has_what_is_left_of_the_drain(
        self, runtime: RuntimeName, caplog: pytest.LogCaptureFixture, how: str
    ) -> None:
        app = Hanging("shutdown")
        started = Gate()

        async def main() -> None:
            router = Started(app, started)
            if how == "await":
                await tako.serve(LOCAL, router, shutdown=started.wait, config=SHORT)
                return
            config = SHORT if how == "block" else LONG
            async with tako.serve(LOCAL, router, config=config) as server:
                assert app.seen == ["startup"]
                if how == "drain(timeout)":
                    await server.drain(0.2)

        run(runtime, main)
        assert app.seen[:2] == ["startup", "shutdown"]
        assert cancelled(app.seen)
        assert "the lifespan has not ended within 1" in caplog.text

    def test_a_timeout_that_comes_later_shortens_it(self, runtime: RuntimeName) -> None:
        app = Hanging("shutdown")

        async def main() -> None:
            async with tako.serve(LOCAL, AsgiApp(app), config=LONG) as server:
                server.stop()
                await app.entered.wait()
                await server.drain(0.1)

        run(runtime, main)
        assert cancelled(app.seen)

    def test_one_that_ends_by_itself_ends_the_server(
        self, runtime: RuntimeName, caplog: pytest.LogCaptureFixture
    ) -> None:
        class Broken(Router):
            @contextlib.asynccontextmanager
            async def lifespan(self) -> AsyncGenerator[None]:
                import trio

                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self.fail)
                    yield

            async def fail(self) -> None:
                msg = "no database any more"
                raise LookupError(msg)

        if runtime != "trio":
            pytest.skip("on asyncio a failed task does not end its loop")

        async def main() -> None:
            with pytest.RaisesGroup(pytest.RaisesExc(LookupError, match="any more")):
                await tako.serve(LOCAL, Broken(), config=LONG)

        run(runtime, main)


class Started(AsgiApp):
    """An app that opens a gate once its start is complete."""

    def __init__(self, app: Any, gate: Gate) -> None:
        super().__init__(app)
        self._gate = gate

    @contextlib.asynccontextmanager
    async def lifespan(self) -> AsyncGenerator[None]:
        async with super().lifespan():
            self._gate.open()
            yield
