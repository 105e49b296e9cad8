"""Rules about the repository itself: what the pages promise is there, and nothing is in it that must not be."""

from __future__ import annotations

import re
import subprocess
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.core.management import get_commands
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from newsletter.environment import BASE_DIR, Environment
from tests.conftest import ROOT

PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
APPS = ("newsletter", "subscribers")
# Modules that only wire Django together: they hold no rule and stand in no layer.
WIRING = {"settings", "apps", "celery", "wsgi", "migrations", "static", "locale", "formats"}
SETTINGS = Environment.model_fields.items()


def tracked_files() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("this is not a git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def default_of(field: FieldInfo) -> str:
    """A setting's default as one writes it into the environment; empty where there is none."""
    value = field.default
    if isinstance(value, SecretStr) or value in (None, "", {}):
        return ""
    if isinstance(value, Path):
        return str(value.relative_to(BASE_DIR))
    return str(value).lower() if isinstance(value, bool) else str(value)


def test_the_readme_names_the_two_commands() -> None:
    readme = (ROOT / "README.md").read_text()
    assert "make demo" in readme
    assert "make test" in readme


@pytest.mark.parametrize(("name", "field"), SETTINGS, ids=[name for name, _ in SETTINGS])
def test_every_setting_is_explained_with_its_default(name: str, field: FieldInfo) -> None:
    default = default_of(field)
    row = f"| `{name.upper()}` | {f'`{default}`' if default else '—'} | {field.description} |"
    assert row in (ROOT / "docs" / "settings.md").read_text().splitlines()
    example = (ROOT / ".env.example").read_text()
    assert f"# {field.description}\n#{name.upper()}={default}\n" in example


def test_no_setting_is_explained_that_does_not_exist() -> None:
    explained = set(re.findall(r"^#([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert explained == {name.upper() for name in Environment.model_fields}


def test_every_command_is_in_the_docs() -> None:
    pages = "\n".join(page.read_text() for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))])
    ours = [name for name, app in get_commands().items() if app in APPS]
    assert ours
    assert [name for name in ours if f"manage.py {name}" not in pages] == []


def test_every_picture_is_shown_on_a_page_and_small() -> None:
    pages = {page: page.read_text() for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]}
    named = {page: re.findall(r"[(\"]((?:docs/)?images/[a-z-]+\.png)[)\"]", text) for page, text in pages.items()}
    shown = {page.parent / name for page, names in named.items() for name in names}
    assert shown == set((ROOT / "docs" / "images").iterdir())
    assert [picture for picture in shown if picture.stat().st_size > 200_000] == []


def test_every_make_target_that_the_pages_name_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
    named = {
        name for page in pages for name in re.findall(r"(?:^ {4}|`)make ([a-z-]+)", page.read_text(), re.MULTILINE)
    }
    assert {"setup", "demo", "test", "check"} <= targets
    assert named <= targets


def test_every_file_that_the_pages_name_exists() -> None:
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
    tops = "|".join((*APPS, "bench", "docs", "templates", "tests"))
    paths = {path for page in pages for path in re.findall(rf"\b(?:{tops})/[\w./-]*\w/?", page.read_text())}
    assert len(paths) > 10
    assert sorted(path for path in paths if not (ROOT / path).exists()) == []


@pytest.mark.parametrize(
    ("lock", "groups"), [("requirements.lock", ()), ("requirements-dev.lock", ("dev", "services"))]
)
def test_the_locks_hold_what_the_project_asks_for(lock: str, groups: tuple[str, ...]) -> None:
    text = (ROOT / lock).read_text()
    locked = dict(re.findall(r"^([A-Za-z0-9._-]+)==(\S+)", text, re.MULTILINE))
    wanted = [*PYPROJECT["project"]["dependencies"]]
    wanted += [line for group in groups for line in PYPROJECT["dependency-groups"][group] if isinstance(line, str)]
    for line in wanted:
        requirement = Requirement(line)
        assert requirement.specifier.contains(locked[canonicalize_name(requirement.name)]), line


def test_what_is_installed_is_what_is_locked() -> None:
    text = (ROOT / "requirements-dev.lock").read_text()
    for name, version, marker in re.findall(r"^([A-Za-z0-9._-]+)==(\S+?)(?: ; (.*?))? \\$", text, re.MULTILINE):
        if not marker or Requirement(f"{name} ; {marker}").marker.evaluate():  # type: ignore[union-attr]
            assert metadata.version(name) == version, f"{name}: run `make setup`"


def test_locks_are_hashed_and_name_no_index() -> None:
    for lock in ("requirements.lock", "requirements-dev.lock"):
        text = (ROOT / lock).read_text()
        assert "://" not in text
        assert all("--hash=sha256:" in block for block in re.split(r"\n(?=\S)", text.strip()))


def test_every_module_stands_in_the_list_of_layers() -> None:
    layers = next(c for c in PYPROJECT["tool"]["importlinter"]["contracts"] if c["type"] == "layers")["layers"]
    listed = {module.strip(" ()") for layer in layers for module in re.split("[:|]", layer)}
    there = {
        f"{app}.{path.stem}"
        for app in APPS
        for path in (ROOT / app).iterdir()
        if (path.suffix == ".py" or path.is_dir()) and not path.name.startswith("__") and path.stem not in WIRING
    }
    assert there - listed == set()


def test_there_are_no_further_python_packages() -> None:
    top = {path.relative_to(ROOT).parts[0] for path in tracked_files() if path.suffix == ".py"}
    assert top <= {*APPS, "bench", "tests", "manage.py"}


def test_nothing_names_a_machine_or_where_packages_come_from() -> None:
    # In pieces, so that this file does not name them either.
    banned = re.compile(
        "|".join(("py" + r"pi\.org", "python" + r"hosted\.org", "/ro" + "ot/", "/ho" + "me/", "/wo" + "rk/"))
    )
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in tracked_files()
        if (match := banned.search(path.read_text(encoding="utf-8", errors="replace")))
    ]
    assert found == []


def test_commit_hooks_fetch_nothing() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    assert [repo["repo"] for repo in hooks["repos"]] == ["local"]
    assert all(hook["language"] == "system" for repo in hooks["repos"] for hook in repo["hooks"])


def test_no_module_outgrows_its_file() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in tracked_files()
        if path.suffix == ".py" and path.relative_to(ROOT).parts[0] in APPS and "migrations" not in path.parts
        if (lines := len(path.read_text().splitlines())) > 450
    }
    assert long == {}


def test_continuous_integration_runs_what_the_readme_says() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    assert script.read_text().rstrip().endswith("\nmake test")
