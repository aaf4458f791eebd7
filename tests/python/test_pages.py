"""What the project's pages name is there: files, links and targets of make; the changelog knows the version."""

import re
import subprocess
from pathlib import Path

import polytask as pt
import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob(".github/**/*.md")])
FOLDERS = {path.name for path in ROOT.iterdir() if path.is_dir()} - {"target"}


@pytest.fixture(params=PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def text(request):
    return request.param.read_text(encoding="utf-8")


def test_files_that_it_names_are_there(text):
    named = re.findall(r"`([\w.*-]+/[\w./*-]*)`", text)
    assert [name for name in named if name.split("/")[0] in FOLDERS and not any(ROOT.glob(name.rstrip("/")))] == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(path):
    links = re.findall(r"\]\(([^)#:]+)\)", path.read_text(encoding="utf-8"))
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_targets_that_it_names_are_in_the_makefile(text):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    known = set(re.findall(r"^([\w-]+):", makefile, re.MULTILINE)) | {"test-level-none"}
    named = re.findall(r"(?:`|\$ )make ([a-z][\w-]*)", text)
    assert [name for name in named if name not in known] == []


def test_the_changelog_has_the_version_and_what_comes_next():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## \[(.+?)\]", text, re.MULTILINE)
    assert versions[0] == "Unreleased"
    assert pt.__version__ in versions
    kinds = {"Added", "Changed", "Deprecated", "Fixed", "Removed", "Security"}
    assert set(re.findall(r"^### (.+)$", text, re.MULTILINE)) <= kinds


def test_hooks_and_workflow_run_what_is_there():
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    assert "repo: local" in hooks
    assert "://" not in hooks, "hooks download nothing"
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    scripts = re.findall(r"run: (\.ci/\w+)", workflow)
    assert scripts == [".ci/run", ".ci/wheel"]
    for script in scripts:
        assert (ROOT / script).stat().st_mode & 0o100, f"{script} can be run"
    subprocess.run(["bash", "-n", *scripts], cwd=ROOT, check=True)
