"""reports.zip: all of the reports, the same bytes from the same files, verified by itself and by sha256sum."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from longtail.report.pages.archive import HOLDS, NOT_PRINTED, TOP, pack
from tests.helpers import links
from tests.helpers.reporting import run_stage
from tests.helpers.root import ROOT

FILES = {
    "index.html": b"<p>",
    "metrics/s/a.json": b"{}",
    "tables/s/t.csv": b"a,b\n" * 500,
    "runs/s/a/run.json": b"{}",
    "notes/n.txt": "ρ".encode(),
}


@pytest.fixture
def reports(tmp_path):
    for name, content in FILES.items():
        (tmp_path / "reports" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "reports" / name).write_bytes(content)
    labels = np.array([0, 1, 1, 2], np.uint8)
    top1 = {"labels": labels, "seed0_last_avg": np.array([0, 1, 2, 2], np.uint8)}
    np.savez(tmp_path / "reports/runs/s/a/predictions.npz", **top1)
    (tmp_path / "reports/metrics/.s.123").write_text("half of a file")
    return tmp_path / "reports"


@pytest.fixture
def archive(reports, tmp_path):
    assert run_stage("archive", "--reports", reports, "--out", tmp_path / "reports.zip") == 0
    return tmp_path / "reports.zip"


def test_all_files_are_in_it(capsys, archive, reports):
    with zipfile.ZipFile(archive) as found:
        names = found.namelist()
        inside = {name: found.read(name) for name in names}
    here = [f"{TOP}/reports/{name}" for name in [*FILES, "runs/s/a/predictions.npz"]]
    assert names == [f"{TOP}/README.md", f"{TOP}/MANIFEST", *sorted(here)]
    assert all(inside[f"{TOP}/reports/{name}"] == content for name, content in FILES.items())
    readme = inside[f"{TOP}/README.md"].decode()
    assert "* `reports/runs/` (2 files): what each run was" in readme
    assert "* [`reports/index.html`](reports/index.html): every printed number" in readme
    assert "* `reports/notes/` (1 files): more" in readme
    assert "Open [`reports/index.html`](reports/index.html) first." in readme
    assert "note: no figure for print is packed" in capsys.readouterr().out and NOT_PRINTED in readme
    assert run_stage("archive", "--check", archive) == 0
    assert f"{archive}: {len(here) + 1} files, all as in its MANIFEST" in capsys.readouterr().out


def test_the_same_files_give_the_same_bytes(archive, reports, tmp_path):
    again = shutil.copytree(reports, tmp_path / "other/reports")
    for path in again.rglob("*"):
        os.utime(path, (1e9, 1e9))
        path.chmod(0o700)
    assert run_stage("archive", "--reports", again, "--out", tmp_path / "again.zip") == 0
    assert (tmp_path / "again.zip").read_bytes() == archive.read_bytes()


def test_the_readmes_lines_read_predictions(archive, tmp_path):
    """Three of four images are right."""
    with zipfile.ZipFile(archive) as found:
        found.extractall(tmp_path / "unpacked")
    folder = tmp_path / "unpacked" / TOP
    code = re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(encoding="utf-8"), re.DOTALL)[1]
    assert len(code.splitlines()) == 3
    said = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    assert said.stdout == "75.0\n"
    if shutil.which("sha256sum"):
        subprocess.run(["sha256sum", "--quiet", "--check", "MANIFEST"], cwd=folder, check=True)


def rewritten(archive, change) -> None:
    """The archive with another content: change({name: bytes})."""
    with zipfile.ZipFile(archive) as found:
        files = {name: found.read(name) for name in found.namelist()}
    change(files)
    with zipfile.ZipFile(archive, "w") as found:
        for name, content in files.items():
            found.writestr(name, content)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda files: files.update({f"{TOP}/reports/index.html": b"<b>"}), "reports/index.html is not as in MANIFEST"),
        (lambda files: files.pop(f"{TOP}/reports/metrics/s/a.json"), "reports/metrics/s/a.json is missing"),
        (lambda files: files.update({f"{TOP}/reports/more": b""}), "reports/more is not in MANIFEST"),
        (lambda files: files.pop(f"{TOP}/MANIFEST"), "no archive of reports"),
    ],
)
def test_a_changed_archive_is_refused(change, message, archive, capsys):
    rewritten(archive, change)
    assert run_stage("archive", "--check", archive) == 2
    said = capsys.readouterr().err
    assert message in said and "make it again" in said and said.count("\n") == 1


def test_a_damaged_or_absent_archive_is_refused(archive, tmp_path, capsys):
    whole = archive.read_bytes()
    for damaged in (whole[:-30], whole[: len(whole) // 2], b""):
        archive.write_bytes(damaged)
        assert run_stage("archive", "--check", archive) == 2
        assert "damaged or no archive" in capsys.readouterr().err
    archive.write_bytes(whole)
    with zipfile.ZipFile(archive) as found:
        largest = max(found.infolist(), key=lambda about: about.compress_size)
    inside = largest.header_offset + 30 + len(largest.filename) + largest.compress_size // 2  # of what is compressed
    archive.write_bytes(whole[:inside] + bytes([whole[inside] ^ 0xFF]) + whole[inside + 1 :])
    assert run_stage("archive", "--check", archive) == 2
    assert str(archive) in capsys.readouterr().err
    assert run_stage("archive", "--check", tmp_path / "absent.zip") == 2
    assert "absent.zip: no such file" in capsys.readouterr().err


def test_nothing_to_pack_leaves_the_old_archive(archive, tmp_path, capsys):
    old = archive.read_bytes()
    (tmp_path / "empty").mkdir()
    for folder in ("empty", "absent"):
        assert run_stage("archive", "--reports", tmp_path / folder, "--out", archive) == 2
        assert f"{folder}: no report in it" in capsys.readouterr().err
    assert archive.read_bytes() == old and run_stage("archive", "--check", archive) == 0


def test_every_folder_of_this_repository_is_explained():
    folders = {path.name for path in (ROOT / "reports").iterdir() if path.is_dir()}
    assert folders <= set(HOLDS)


def unpacked(reports, folder):
    """The archive's one folder, where nothing of the repository is near."""
    pack(reports, folder / "reports.zip")
    with zipfile.ZipFile(folder / "reports.zip") as found:
        found.extractall(folder / "unpacked")
    return folder / "unpacked" / TOP


def test_a_link_that_leads_nowhere_is_found(tmp_path):
    """Of each kind one that arrives and one that does not: in HTML, in Markdown, in the README of figures for print."""
    pages = {
        "index.html": """<html><h2 id="a">A</h2><a href="#a">x</a> <a href='#no-k'>x</a><a href="#no-a">x</a>
            <a href="sub/p.md#two-words">x</a><a href="sub/p.md#no-b">x</a> <img src="sub/no-c.png" alt="a > b">
            <source srcset="no-d.svg"><a href="https://example.org/x">x</a><a href="http://example.org/no-e">x</a>
            <img src="data:image/png;base64,AA"><g clip-path="url(#no-f)"/><script>'<a href="in-a-script">'</script>
            <a href="../../no-g">out of the archive</a><a href="figures_print/s%20t/g.pdf">x</a>""",
        "sub/p.md": """# Two *words*\n\n[up](../index.html#a) [no](../index.html#no-h) `[code](no)` ![no](no-i.png)
            <a id="here"></a> [here](#here) [there](#no-j)\n\n```\n[code](no)\n```\n# Two words\n[x](#two-words-1)\n""",
        "tables/part.html": '<table id="t"><a href="#a">in index.html</a><a href="#no-l">x</a>',
        "figures_print/s t/g.pdf": "",
    }
    for name, text in pages.items():
        (tmp_path / "reports" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "reports" / name).write_text(text)
    folder = unpacked(tmp_path / "reports", tmp_path)
    assert sorted(line.rpartition("no-")[2][0] for line in links.broken(folder)) == list("abcdefghijkl")
    assert "* `s t`: [g](reports/figures_print/s%20t/g.pdf)" in (folder / "README.md").read_text()
    (folder / "reports/figures_print/s t/g.pdf").unlink()
    assert "README.md: reports/figures_print/s%20t/g.pdf" in links.broken(folder)


def test_what_pages_link_to_beside_the_reports_is_in_it(tmp_path):
    """The licence that a page names, a document and what that one links to; no more, and nothing from further above."""
    pages = {
        "reports/index.html": '<a href="../LICENSE">x</a><a href="../docs/a.md#b">x</a><a href="../../up">x</a>',
        "reports/studies/s.md": "[up](../../README.md) [in](../index.html) [away](https://example.org/docs/c.md)",
        "docs/a.md": "[next](b%20b.md) [back](../reports/index.html) [gone](gone.md) [code](../code.py)",
        **{
            name: "x"
            for name in ("LICENSE", "README.md", "docs/b b.md", "docs/c.md", "code.py", "unlinked.md", "../up")
        },
    }
    root = tmp_path / "root"
    for name, text in pages.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    folder = unpacked(root / "reports", tmp_path)
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    beside = {name for name in found if not name.startswith("reports/")} - {"README.md", "MANIFEST"}
    assert beside == {"LICENSE", "docs/a.md", "docs/b b.md", "code.py"}
    readme = (folder / "README.md").read_text()
    assert "what its pages link to: `LICENSE`, `code.py`, `docs/`." in readme and readme.startswith("# Reports")


def test_every_link_of_the_reports_resolves_from_the_unpacked_archive(tmp_path):
    """Of all pages in reports/ as they are, also those that DVC keeps where they are here."""
    folder = unpacked(ROOT / "reports", tmp_path)
    assert links.broken(folder) == []
    places = set(re.findall(r'"place":"([^"]*)"', (folder / "reports/compare.html").read_text(encoding="utf-8")))
    assert places and places <= links.read(folder / "reports/index.html")[1]  # links that its script makes
