"""What README and docs show as code runs, or says why not.

Python is run by test_docs.py, test_how_to.py and test_readme.py. Here are the others:
commands are given to tako as they stand, configurations to the programs that read them.
A block that is not for that says so in a comment in front of it.
"""

import configparser
import json
import re
import shlex
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trustme

from tests.support.children import run_child
from tests.support.proxies import needs


pytest.importorskip("click")
import click

from tako.cli import commands
from tako.cli.plan import read_plan


ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
NOT_RUN = re.compile(r"<!-- not run: [^\n]+ -->\n+\s*$")
_BLOCK = re.compile(r"^( *)```(\w*)([^\n]*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
_ELSEWHERE = {"python", "text"}  # run by others; what is printed, and pictures
_SHELL = {"cd", "mkdir", "export", "."}


class Block(NamedTuple):
    """A block of code of a page."""

    page: str
    line: int
    language: str
    text: str
    runs: bool


def blocks() -> Iterator[Block]:
    for page in PAGES:
        text = page.read_text()
        for found in _BLOCK.finditer(text):
            front = text[: found.start()]
            yield Block(
                str(page.relative_to(ROOT)),
                front.count("\n") + 1,
                found[2],
                textwrap.dedent(found[4]),
                NOT_RUN.search(front) is None,
            )


def spans() -> Iterator[tuple[str, str]]:
    """Yield the commands that name what to serve, in the text of a page."""
    for page in PAGES:
        for command in re.findall(r"`(tako serve [\w.]+:\w+[^`]*)`", page.read_text()):
            yield str(page.relative_to(ROOT)), command.replace("\n", " ")


BLOCKS = [each for each in blocks() if each.language not in _ELSEWHERE]
RUN = [each for each in BLOCKS if each.runs]


def of(*languages: str) -> pytest.MarkDecorator:
    mine = [each for each in RUN if each.language in languages]
    names = [f"{each.page}:{each.line}" for each in mine]
    assert mine, languages
    return pytest.mark.parametrize("block", mine, ids=names)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that commands name, for as long as a test lasts."""
    authority = trustme.CA()
    leaf = authority.issue_cert("localhost")
    chain, key = leaf.cert_chain_pems[0], leaf.private_key_pem
    for name in ("cert", "fullchain", "a", "b", "clients", "site", "ca"):
        chain.write_to_path(tmp_path / f"{name}.pem")
    for name in ("key.pem", "privkey.pem", "a.key", "b.key"):
        key.write_to_path(tmp_path / name)
    (tmp_path / "both.pem").write_bytes(leaf.private_key_and_cert_chain_pem.bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path


def try_tako(words: list[str]) -> None:
    """Have the command read ``words``, as far as it does before it serves."""
    command: click.Command = commands.root
    name = "tako"
    context = click.Context(command)
    while isinstance(command, click.Group):
        name = words.pop(0)
        found = command.get_command(context, name)
        assert found is not None, f"tako {name}"
        command = found
    with command.make_context(name, words) as context:
        if name == "serve":
            options = dict(context.params)
            for each in ("check", "print_config"):
                options.pop(each)
            read_plan(options)


def logical_lines(text: str) -> list[str]:
    """Return the commands of a block: continued lines joined, comments left out."""
    lines = text.replace("\\\n", " ").splitlines()
    return [line for line in lines if line.strip() and not line.startswith("#")]


def simple_commands(line: str) -> Iterator[list[str]]:
    """Yield the words of each command of a line, without variables in front."""
    words: list[str] = []
    for word in [*shlex.split(line, comments=True), "&&"]:
        if word in {"&&", "|", ";"}:
            if words:
                yield words
            words = []
        elif words or not re.match(r"[A-Z_]+=", word):
            words.append(word)


def extras() -> set[str]:
    text = (ROOT / "pyproject.toml").read_text()
    table = text.partition("[project.optional-dependencies]")[2].partition("\n[")[0]
    return set(re.findall(r"^(\w+) = ", table, re.MULTILINE))


def try_shell(words: list[str]) -> None:
    program, *rest = words
    if program == "tako":
        # what certificates of a deployment are called there, is not here
        try_tako([re.sub(r"^/certs/tls\.(crt|key)$", _here, word) for word in rest])
    elif program == "opentelemetry-instrument":
        try_shell(rest)
    elif program == "pip":
        named = re.findall(r"\[([\w,]+)\]", " ".join(rest))
        assert {name for each in named for name in each.split(",")} <= extras()
    elif program == "make":
        makefile = (ROOT / "Makefile").read_text()
        assert re.search(rf"^{rest[0]}:", makefile, re.MULTILINE), rest[0]
    elif program in {"python", "python3", "pytest", "echo"}:
        pass  # test_docs.py and test_how_to.py run these
    else:
        assert program in _SHELL, f"{program}: run it, or say why not"


def _here(found: re.Match[str]) -> str:
    return "cert.pem" if found[1] == "crt" else "key.pem"


def test_every_block_has_a_language_that_is_run() -> None:
    known = {
        "sh",
        "nginx",
        "haproxy",
        "caddy",
        "yaml",
        "ini",
        "dockerfile",
        "js",
        "html",
    }
    unknown = [each for each in RUN if each.language not in known]
    assert unknown == []


@of("sh")
def test_commands_are_taken(block: Block, folder: Path) -> None:
    for line in logical_lines(block.text):
        for words in simple_commands(line):
            try_shell(words)


@pytest.mark.parametrize(("page", "command"), sorted(set(spans())))
def test_commands_in_a_line_are_taken(page: str, command: str, folder: Path) -> None:
    try_shell(shlex.split(command))


@of("ini")
def test_units_of_systemd_are_read(block: Block, folder: Path) -> None:
    unit = configparser.ConfigParser(interpolation=None, strict=False)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read_string(block.text)
    assert set(unit) <= {"DEFAULT", "Unit", "Service", "Socket", "Install"}
    if "Service" in unit:
        program, *words = shlex.split(unit["Service"]["ExecStart"])
        assert program.endswith("/tako")
        try_tako(words)


@of("dockerfile")
def test_the_container_starts_the_command(block: Block, folder: Path) -> None:
    found = re.search(r"^CMD (\[.+\])$", block.text, re.MULTILINE)
    assert found is not None
    try_shell(json.loads(found[1]))


def containers(value: Any) -> Iterator[list[str]]:
    """Yield the ``args`` that are anywhere in a document."""
    if isinstance(value, dict):
        if "args" in value:
            yield value["args"]
        for each in value.values():
            yield from containers(each)
    elif isinstance(value, list):
        for each in value:
            yield from containers(each)


@pytest.mark.parametrize(
    "block", [each for each in BLOCKS if each.language == "yaml"], ids=lambda b: b.page
)
def test_yaml_is_read_and_its_commands_are_taken(block: Block, folder: Path) -> None:
    yaml = pytest.importorskip("yaml", reason="MkDocs brings it")
    document = yaml.safe_load(block.text)
    assert isinstance(document, dict)
    for args in containers(document):
        try_shell([str(word) for word in args])


def accepted(command: list[str], folder: Path) -> None:
    done = run_child(command, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr


@needs("nginx")
@of("nginx")
def test_nginx_takes_its_lines(block: Block, folder: Path) -> None:
    body = block.text
    if "location" not in body:
        body = f"location / {{ {body} }}"
    (folder / "nginx.conf").write_text(f"""
        pid {folder}/pid;
        error_log stderr;
        events {{}}
        http {{
            access_log off;
            client_body_temp_path {folder}/one; proxy_temp_path {folder}/two;
            fastcgi_temp_path {folder}/three; uwsgi_temp_path {folder}/four;
            scgi_temp_path {folder}/five;
            map $http_upgrade $connection_upgrade {{ default upgrade; '' close; }}
            server {{ listen unix:{folder}/s; {body} }}
        }}""")
    conf = str(folder / "nginx.conf")
    accepted(["nginx", "-t", "-p", str(folder), "-e", "stderr", "-c", conf], folder)


@needs("haproxy")
@of("haproxy")
def test_haproxy_takes_its_sections(block: Block, folder: Path) -> None:
    text = block.text.replace("/etc/haproxy/site.pem", str(folder / "both.pem"))
    text = text.replace("ca-file ca.pem", f"ca-file {folder / 'ca.pem'}")
    times = "".join(f"timeout {each} 60s\n" for each in ("connect", "client", "server"))
    (folder / "haproxy.cfg").write_text(f"defaults\nmode http\n{times}\n{text}")
    accepted(["haproxy", "-c", "-f", "haproxy.cfg"], folder)


@needs("caddy")
@of("caddy")
def test_caddy_takes_its_site(block: Block, folder: Path) -> None:
    (folder / "Caddyfile").write_text(block.text)
    form = ["--adapter", "caddyfile", "--config", "Caddyfile"]
    accepted(["caddy", "adapt", *form], folder)


def scripts(block: Block) -> str:
    if block.language == "js":
        return block.text
    return "\n".join(re.findall(r"<script>\n(.*?)</script>", block.text, re.DOTALL))


@needs("node")
@of("js", "html")
def test_scripts_of_pages_are_javascript(block: Block, folder: Path) -> None:
    (folder / "it.js").write_text(scripts(block))
    accepted(["node", "--check", "it.js"], folder)


@needs("node")
def test_the_class_for_browsers_comes_back_and_says_what_it_has(folder: Path) -> None:
    page = (ROOT / "docs" / "how-to" / "browser.md").read_text()
    text = page.partition('```js title="reconnecting.js"\n')[2].partition("\n```")[0]
    (folder / "reconnecting.js").write_text(text)
    script = ROOT / "tests" / "clients" / "node" / "reconnecting.mjs"
    accepted(["node", str(script), "reconnecting.js"], folder)
