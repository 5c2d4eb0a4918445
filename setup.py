"""Lists the packages of the wheel; everything else is in pyproject.toml.

pyproject.toml can find packages only in folders of the same name. `plugins/` is installed as `renoise_plugins`,
`configs/presets/` as `renoise_presets`, `configs/suites/` as `renoise_suites`, `data/images/` as `renoise_scenes` and
`data/photographs/` as `renoise_photographs`, so they are found here.
"""

from setuptools import find_packages, setup

setup(
    package_dir={
        "renoise_plugins": "plugins",
        "renoise_presets": "configs/presets",
        "renoise_suites": "configs/suites",
        "renoise_scenes": "data/images",
        "renoise_photographs": "data/photographs",
    },
    packages=[
        *find_packages(include=["renoise", "renoise.*"]),
        "renoise_plugins",
        *(f"renoise_plugins.{package}" for package in find_packages("plugins")),
        "renoise_presets",
        "renoise_suites",
        "renoise_scenes",
        "renoise_photographs",
    ],
)
