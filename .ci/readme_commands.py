"""Prints a command of README.md: `python3 .ci/readme_commands.py install`.

A comment above the fenced block, invisible to readers, marks a command:

    <!-- ci:install -->
    ```bash
    pip install .
    ```

So CI runs exactly what README says.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

README = Path(__file__).resolve().parents[1] / "README.md"


def command(text: str, name: str) -> str:
    """Returns the bash block below a marker.

    Args:
        text: README's text.
        name: Name of the marker.

    Raises:
        SystemExit: README does not contain the marker with its block exactly once.
    """
    blocks = re.findall(rf"^<!-- ci:{re.escape(name)} -->\n+```bash\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    if len(blocks) != 1:
        sys.exit(
            f"README.md must contain the line '<!-- ci:{name} -->' with a ```bash block right below it once, "
            f"but contains it {len(blocks)} times"
        )
    return str(blocks[0]).strip()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python3 .ci/readme_commands.py MARKER")
    print(command(README.read_text(encoding="utf-8"), sys.argv[1]))
