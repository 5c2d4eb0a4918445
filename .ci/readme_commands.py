"""Prints a command of README.md: `python3 .ci/readme_commands.py install`.

README marks a command by a comment of its own, invisible to readers, above the fenced block:

    <!-- ci:install -->
    ```bash
    pip install .
    ```

So what is tested is what is promised, to the letter.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

README = Path(__file__).resolve().parents[1] / "README.md"


def command(text: str, name: str) -> str:
    """The bash block below the marker `name` in README's `text`; ends with a message unless there is exactly one."""
    blocks = re.findall(rf"^<!-- ci:{re.escape(name)} -->\n+```bash\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    if len(blocks) != 1:
        sys.exit(
            f"README.md must hold exactly one line '<!-- ci:{name} -->' with a ```bash block right below it; "
            f"it holds {len(blocks)}"
        )
    return str(blocks[0]).strip()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python3 .ci/readme_commands.py MARKER")
    print(command(README.read_text(encoding="utf-8"), sys.argv[1]))
