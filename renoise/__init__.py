"""ReNoise: Real Image Inversion Through Iterative Noising (arXiv 2403.14602).

The public names are those of `__init__.pyi`. Each is imported when it is first used: `import renoise` imports no torch.
"""

from __future__ import annotations

from importlib.metadata import version

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

__version__ = version("renoise")
