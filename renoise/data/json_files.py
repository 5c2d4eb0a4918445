"""Files of JSON that say which images a data set has."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from renoise.data.images import UnreadableImageError, read_bytes
from renoise.errors import InputError


def read_json(path: Path, option: str) -> Any:
    """What a file of JSON holds.

    Args:
        path: of the file.
        option: that names it, for messages.

    Raises:
        InputError: it is not there, cannot be read, or is no JSON.
    """
    try:
        return json.loads(read_bytes(path))
    except UnreadableImageError as error:
        raise InputError(f"{option}: {path} {error}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{option}: {path} is not JSON: {error}") from None


def check_folder(path: Path, option: str) -> None:
    """Refuses a folder of images that is none at once, before every image in it is said to be missing.

    Raises:
        InputError: it is not there, or is no folder.
    """
    if not path.is_dir():
        raise InputError(f"{option}: {path} {'is not a folder' if os.path.lexists(path) else 'does not exist'}")
