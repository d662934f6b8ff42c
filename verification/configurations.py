"""Configurations that a command is given, and the one machine that all of them are for."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from models.config import AcceleratorConfig, Config, ConfigError


def load_on(paths: Sequence[Path], preset: str) -> tuple[list[Config], AcceleratorConfig, str]:
    """The configurations in files, on one machine; that machine, and its name.

    Args:
        paths: of the files. One that gives no machine takes that of the others.
        preset: name of the machine, unless it is the default and a file gives another.

    Raises:
        ConfigError: for a file that cannot be read, or that gives another machine than the preset or another file.
    """
    default = AcceleratorConfig()
    machine, name, configs = AcceleratorConfig.preset(preset), preset, [Config.load(path) for path in paths]
    for path, config in zip(paths, configs, strict=True):
        if config.accelerator in (default, machine):
            continue
        if machine != default:
            raise ConfigError(f"{path}: accelerator: is another machine than {name}; leave one of them out")
        machine, name = config.accelerator, path.stem
    return [replace(config, accelerator=machine) for config in configs], machine, name
