"""Lists the packages of the wheel; everything else is in pyproject.toml.

pyproject.toml can find packages only in folders of the same name. `plugins/` is installed as `renoise_plugins`,
`configs/presets/` as `renoise_presets`, `configs/suites/` as `renoise_suites` and `data/images/` as `renoise_samples`,
so they are found here.
"""

from setuptools import find_packages, setup

setup(
    package_dir={
        "renoise_plugins": "plugins",
        "renoise_presets": "configs/presets",
        "renoise_suites": "configs/suites",
        "renoise_samples": "data/images",
    },
    packages=[
        *find_packages(include=["renoise", "renoise.*"]),
        "renoise_plugins",
        *(f"renoise_plugins.{package}" for package in find_packages("plugins")),
        "renoise_presets",
        "renoise_suites",
        "renoise_samples",
    ],
)
