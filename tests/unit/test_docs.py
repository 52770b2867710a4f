"""The documentation: it builds without a warning, and tells of the program as it is."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from relay.cli import COMMANDS
from relay.web.pages import texts
from tests.applications import ADMIN, BOARD, CONSOLE, PHONES, PUBLIC, SYNC, applications, routes
from tests.fleet import Fleet

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
TAGS = {
    "sync": {SYNC},
    "public": {PUBLIC},
    "console": {CONSOLE, ADMIN},
    "board": {BOARD, CONSOLE, ADMIN},
    "operator": {PHONES, CONSOLE},
    "admin": {ADMIN},
}
"""The doors at which what has a tag is found."""


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("material", reason="the site needs mkdocs-material: pip install mkdocs-material")
    command = [sys.executable, "-W", "ignore", "-m", "mkdocs", "build", "--strict", "--quiet"]
    done = subprocess.run(
        [*command, "-f", DOCS / "site" / "mkdocs.yml", "-d", tmp_path / "site"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    pages = {str(page.relative_to(tmp_path / "site")) for page in (tmp_path / "site").rglob("*.html")}
    written = {str(page.relative_to(DOCS).with_suffix(".html")) for page in DOCS.rglob("*.md")}
    assert written <= pages
    assert "reference/cli.html" in pages
    fetched = re.compile(r'(?:src|href)="(?:https?:)?//(?!github|pypi)[^"]*\.(?:js|css|woff2?)"')
    for page in pages:
        assert not fetched.search((tmp_path / "site" / page).read_text()), f"{page} fetches something from elsewhere"


def test_no_page_waits_to_be_filled_in() -> None:
    left = re.compile(r"@[A-Z]+@|not measured yet")
    pages = [page for page in DOCS.rglob("*") if page.suffix in {".md", ".yaml", ".yml", ".toml", ".conf"}]
    found = {page.relative_to(ROOT): left.findall(page.read_text()) for page in (ROOT / "README.md", *pages)}
    assert not {str(page): words for page, words in found.items() if words}


@pytest.mark.parametrize(("guide", "words"), [("operator", "operator/texts.json"), ("kapal", "board.json")])
def test_the_guides_quote_what_the_pages_say(guide: str, words: str) -> None:
    said = "\n".join(re.sub(r"{count} (?=foto)", "1 ", text) for text in texts(words)["id"].values())
    quoted = re.findall(r"“([^”]+)”", " ".join((DOCS / "panduan" / f"{guide}.md").read_text().split()))
    assert len(quoted) > 10
    assert [one for one in quoted if one not in said] == []


@pytest.mark.parametrize(("language", "site"), [("en", "SITE"), ("id", "SITUS")])
def test_the_check_page_tells_what_the_audit_is_and_where_to_get_it(language: str, site: str) -> None:
    import json
    import tomllib

    from relay.cli.audit import audit

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    texts = json.loads((ROOT / "relay/web/site/templates" / f"texts.{language}.json").read_text())
    (part,) = (one for one in texts["check_page"] if "relay audit" in one["code"])
    *before, last = part["code"].splitlines()
    assert any(line.endswith(f"pip install {project['name']}") for line in before)
    assert project["requires-python"].removeprefix(">=") in part["text"]
    assert "relay audit" in part["text"] and "root.pem" in part["text"] and site in part["text"]
    command, *arguments = last.split(" audit ")[1].split()
    assert command == site
    audit.make_context("audit", [command, *arguments])  # as it is called indeed


def test_every_command_is_in_the_reference() -> None:
    text = _hooks().commands()
    for name in COMMANDS:
        assert f"\n## relay {name}\n" in text
    assert "\n## relay drill report\n" in text
    assert "--samples" in text


async def test_openapi_tells_everything_that_the_applications_answer(fleet: Fleet, tmp_path: Path) -> None:
    """Each method of each path, under the door at which it is; and nothing that no door answers."""
    yaml = pytest.importorskip("yaml", reason="reading it needs PyYAML: pip install pyyaml")
    document: dict[str, Any] = yaml.safe_load((DOCS / "reference" / "openapi.yaml").read_text())
    told = {
        (method.upper(), path): set(operation["tags"])
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    }
    answered: set[tuple[str, str]] = set()
    for door, app in (await applications(fleet, tmp_path)).items():
        for one in routes(app):
            answered.add(one)
            assert any(door in TAGS[tag] for tag in told.get(one, ())), (
                f"openapi.yaml does not tell of {one[0]} {one[1]} on {door}"
            )
    assert set(told) - answered == set(), "no application answers these any more"


def test_openapi_is_valid() -> None:
    validator = pytest.importorskip("openapi_spec_validator", reason="pip install openapi-spec-validator")
    yaml = pytest.importorskip("yaml")
    validator.validate(yaml.safe_load((DOCS / "reference" / "openapi.yaml").read_text()))


def test_the_package_is_built_of_everything_that_relay_needs() -> None:
    import tomllib

    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {re.split(r"[<>=~!\[; ]", one)[0].lower() for one in wanted}
    locked = set(re.findall(r"(?m)^([a-z0-9._-]+)==", (ROOT / "systemd" / "debian" / "requirements.txt").read_text()))
    assert names <= locked, "make systemd/debian/requirements.txt anew; its first lines say how"


def test_the_picture_is_of_the_example_plan() -> None:
    from relay.cli.simulate.forecast import forecast
    from relay.cli.simulate.picture import draw
    from relay.cli.simulate.plan import parse_plan

    plan = parse_plan((DOCS / "examples" / "belitung-timur.toml").read_bytes())
    kept = (DOCS / "images" / "plan.svg").read_text()
    assert draw(forecast(plan, 2_000, 1)) == kept, "relay simulate docs/examples/… --svg docs/images/plan.svg"


def _hooks() -> Any:
    specification = importlib.util.spec_from_file_location("docs_hooks", DOCS / "site" / "hooks.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module
