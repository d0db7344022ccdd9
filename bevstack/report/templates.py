"""The HTML templates of this folder, filled in: everything escaped, and a missing value is an error, not a gap."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jinja2

FOLDER = Path(__file__).parent


def filled_in(template: str, filters: Mapping[str, Callable[..., Any]], **content: Any) -> str:
    """A page as text.

    Args:
        template: name of the file in this folder.
        filters: what the template calls by name.
        content: what it reads.

    Raises:
        jinja2.UndefinedError: the template reads what is not there.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(filters)
    return environment.get_template(template).render(**content)
