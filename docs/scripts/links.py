"""Hook of mkdocs: turns links so that the same pages work on GitHub and on the site.

Links that leave `docs/` lead to the repository, and links to notebooks to their pages.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

REPOSITORY = Path(__file__).resolve().parents[2]
DOCS = REPOSITORY / "docs"
LINK = re.compile(r"(?<=\]\()[^)\s]+")
"""The target of a Markdown link or image."""


def repository_url() -> str:
    """Returns the address of the repository, as pyproject.toml has it."""
    with (REPOSITORY / "pyproject.toml").open("rb") as file:
        return str(tomllib.load(file)["project"]["urls"]["Homepage"])


def on_config(config: Any) -> Any:
    """Adds the link to the repository to the navigation.

    The theme's own `repo_url` would ask GitHub for the number of stars in every reader's browser.
    """
    config.nav.append({"Repository": repository_url()})
    return config


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Returns the page with the links of the site."""
    folder = (DOCS / page.file.src_uri).parent

    def address(link: re.Match[str]) -> str:
        target = urlsplit(link.group())
        path = (folder / target.path).resolve()
        if target.scheme or not target.path:
            return link.group()
        if path.is_relative_to(DOCS):
            return link.group().replace(".ipynb", ".md")  # see notebook_pages.py
        kind = "tree" if path.is_dir() else "blob"
        anchor = f"#{target.fragment}" if target.fragment else ""
        return f"{repository_url()}/{kind}/main/{path.relative_to(REPOSITORY).as_posix()}{anchor}"

    return LINK.sub(address, markdown)
