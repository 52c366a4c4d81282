"""``tako serve --otel``, in front of an instrumented app."""

import sys
from pathlib import Path

import pytest

from tako.testing.peer import Wire
from tests.integration.test_cli import serving
from tests.support.children import run_child
from tests.support.patience import TIMEOUT
from tests.support.server import Credentials


SPAN = "b7ad6b7169203331"
PARENT = ("traceparent", f"00-0af7651916cd43dd8448eb211c80319c-{SPAN}-01")
APP = """
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from opentelemetry import trace
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter

class Printed(SpanExporter):
    def export(self, spans):
        for span in spans:
            parent = span.parent and f"{span.parent.span_id:016x}"
            kind = span.attributes.get("error.type")
            print("span", span.name, span.kind.name, parent, kind, flush=True)

provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(Printed()))
trace.set_tracer_provider(provider)
app = FastAPI()

@app.get("/items/{item}")
async def read(item: str) -> str:
    return item

@app.get("/cut")
async def cut() -> StreamingResponse:
    async def body():
        yield b"a"
        raise LookupError
    return StreamingResponse(body())

FastAPIInstrumentor.instrument_app(app, exclude_spans=["receive", "send"])
"""


@pytest.mark.parametrize("wire", ["h1s", "h2"])
def test_the_command_has_an_option_for_it(
    tmp_path: Path, credentials: Credentials, wire: Wire, runtime: str
) -> None:
    (tmp_path / "traced.py").write_text(APP)
    options = ["--otel", "--runtime", "trio" if runtime == "trio" else "asyncio"]
    with serving(tmp_path, credentials, "traced:app", *options) as host:
        with host.connect(wire) as connection:
            connection.request("GET", "/items/7", [PARENT])
        host.wait_output(f"span GET SERVER {SPAN} None")
        host.wait_output("span GET /items/{item} INTERNAL ")
        with host.connect(wire) as connection:  # the app writes to the wire itself
            connection.send_request("GET", "/cut")
            host.wait_output("span GET SERVER None LookupError")


def test_without_the_extra_nothing_is_imported() -> None:
    code = (
        "import sys, tako, tako.cli.serve, tako.testing\n"
        "assert not {'opentelemetry', 'tako.otel'} & set(sys.modules)\n"
        "sys.modules['opentelemetry'] = None\n"
        "sys.argv = ['tako', 'serve', 'x:y', '--plain', '--otel']\n"
        "from tako.cli import main\n"
        "main()\n"
    )
    done = run_child([sys.executable, "-c", code], limit=TIMEOUT)
    assert done.returncode == 2, done.stderr
    assert "--otel needs pip install 'tako-server[otel]'" in done.stderr
