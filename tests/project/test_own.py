"""``make own`` finds the tests of a module."""

from pathlib import Path

import pytest

from tests.support.own import ROOT, main, own_tests


def found(module: str) -> list[str]:
    paths = own_tests(Path(module))
    return [path.relative_to(ROOT / "tests" / "sansio").as_posix() for path in paths]


def test_a_module_is_mirrored_by_its_test_file() -> None:
    assert found("tako/http/headers.py") == ["http/test_headers.py"]
    assert found("tako/h1/head_parser.py") == ["http1/test_head_parser.py"]
    assert found("tako/config.py") == ["test_config.py"]


def test_what_continues_a_test_file_belongs_to_it() -> None:
    assert found("tako/ws/codec.py") == ["ws/test_codec.py", "ws/test_codec_oracle.py"]


def test_without_a_file_of_its_own_a_module_has_the_folder() -> None:
    assert found("tako/tls/context.py") == ["tls"]


def test_a_folder_that_does_io_has_no_tests_without() -> None:
    with pytest.raises(LookupError, match="no test without I/O"):
        own_tests(Path("tako/runtime/asyncio_loop.py"))


@pytest.mark.parametrize("file", ["tako/absent.py", "README.md"])
def test_what_is_no_module_is_refused(
    file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([file]) == 2
    assert "is no file of tako/" in capsys.readouterr().err
