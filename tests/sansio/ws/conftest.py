"""What the tests of WebSockets share."""

from collections.abc import Iterator

import pytest

from tests.support.wire import FakeRuntime


@pytest.fixture(autouse=True)
def _unwound(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """End the tasks that a test leaves waiting, there and not in some later test."""
    runtimes: list[FakeRuntime] = []
    create = FakeRuntime.__init__

    def created(runtime: FakeRuntime) -> None:
        create(runtime)
        runtimes.append(runtime)

    monkeypatch.setattr(FakeRuntime, "__init__", created)
    yield
    for runtime in runtimes:
        runtime.close()
