"""Check a release and tag it: ``make release``. Pushing the tag publishes it (``.github/workflows/release.yml``).

The version is that of ``airflow_provider_bitrix24/__init__.py``; the changelog must have its date.
"""

from __future__ import annotations

import re
import subprocess

from package import ROOT, package

INIT = ROOT / "airflow_provider_bitrix24" / "__init__.py"
CHANGELOG = ROOT / "CHANGELOG.md"


def version() -> str:
    """Return the version that is in the source.

    :raises SystemExit: the changelog has no date for it, or something is not committed.
    """
    found = re.search(r'^__version__ = "(.+)"$', INIT.read_text(), re.MULTILINE)
    assert found
    newest = re.search(r"^## (.+)$", CHANGELOG.read_text(), re.MULTILINE)
    if not newest or not re.fullmatch(rf"{re.escape(found[1])} \(\d{{4}}-\d\d-\d\d\)", newest[1]):
        raise SystemExit(f"The first heading of CHANGELOG.md must be: ## {found[1]} (date, such as 2026-12-31)")
    if _git("status", "--porcelain"):
        raise SystemExit("There are changes that are not committed.")
    return found[1]


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    tag = f"v{version()}"
    package()
    _git("tag", "--annotate", tag, "--message", tag)
    print(f"Tagged as {tag}. To publish: git push origin {tag}")
