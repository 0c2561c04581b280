"""Finds plugins and asks each for its tools; a broken one is reported and harms nobody else.

A plugin is a sub-folder with Python files, `register.py` among them, or an installed package that names itself in the
entry-point group `conductor_ai.plugins`. Its `register(global_registry)` hands the tools over.
"""

from __future__ import annotations

import hashlib
import importlib
import re
import sys
import traceback
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from conductor_ai.errors import ConductorError, InvalidInput, PluginError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from conductor_ai.tools.registry import ToolRegistry

ENTRY_POINT_GROUP = "conductor_ai.plugins"
DEFAULT_DIR = "plugins"
SHIPPED = ("example_plugin",)
"""The plugins that are part of conductor-ai. In a clone they share their folder with whatever a user writes there."""

_Register: TypeAlias = "Callable[[ToolRegistry], object]"


@dataclass(frozen=True, slots=True)
class PluginInfo:
    """One plugin found. `path` is its folder, or what its entry point names; `tools` are names.

    `error` is one line saying what is wrong and where; a plugin with an error has registered nothing.
    """

    name: str
    path: str
    tools: tuple[str, ...] = ()
    error: str | None = None


class PluginLoader:
    """From folders and entry points to registered tools."""

    @staticmethod
    def discover_plugins(plugins_dir: str | Path | None = None) -> list[PluginInfo]:
        """What is there, nothing of it imported: sub-folders by name, then entry points by name.

        Args:
            plugins_dir: The folder to look in; it must exist. None looks into `plugins/` where there is one.
        Raises: InvalidInput where the named folder is missing or cannot be read.
        """
        return [plugin for plugin, _ in _found(plugins_dir)]

    @staticmethod
    def discover_and_register(
        registry: ToolRegistry,
        plugins_dir: str | Path | None = None,
        *,
        only: Collection[str] | None = None,
        skip: Collection[str] = (),
    ) -> list[PluginInfo]:
        """Import each plugin and register its tools, all of a plugin's or none.

        Args:
            registry: Where the tools go.
            plugins_dir: As for `discover_plugins`.
            only: Names of the sub-folders to look at; None for all. Entry points are found whatever it holds.
            skip: Names of plugins to leave alone.
        Returns: each plugin with its tools, or with its error.
        Raises: InvalidInput as `discover_plugins` does. Never an error of a plugin's own.
        """
        found = [(plugin, source) for plugin, source in _found(plugins_dir, only) if plugin.name not in skip]
        return [_load(registry, plugin, source) for plugin, source in found]


def _found(
    plugins_dir: str | Path | None, only: Collection[str] | None = None
) -> list[tuple[PluginInfo, Path | EntryPoint]]:
    from importlib.metadata import entry_points

    folders = _folders(plugins_dir)
    installed = sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda point: (point.name, point.value))
    found: list[tuple[PluginInfo, Path | EntryPoint]] = [
        (_folder_info(folder), folder) for folder in folders if only is None or folder.name in only
    ]
    return found + [(PluginInfo(point.name, point.value), point) for point in installed]


def _folders(plugins_dir: str | Path | None) -> list[Path]:
    if plugins_dir is None and not Path(DEFAULT_DIR).is_dir():
        return []
    named = Path(DEFAULT_DIR if plugins_dir is None else plugins_dir)
    try:
        folders = sorted(named.resolve(strict=True).iterdir())
    except OSError as exc:
        reason = exc.strerror or str(exc)
        raise InvalidInput(f"the plugins folder {named} cannot be read: {reason}") from exc
    return [folder for folder in folders if not folder.name.startswith((".", "__")) and any(folder.glob("*.py"))]


def _folder_info(folder: Path) -> PluginInfo:
    # Whoever may write a link into the folder must not thereby bring in code from elsewhere.
    linked = next((path for path in (folder, folder / "register.py") if path.is_symlink()), None)
    error = None
    if linked:
        error = f"{linked} is a symbolic link: a plugin is a real folder of its plugins folder"
    elif not (folder / "register.py").is_file():
        # Silence would leave the author of a misspelt file to wonder where the tools are.
        error = f"{folder} has Python files but no register.py: write one, or keep the files elsewhere"
    return PluginInfo(folder.name, str(folder), error=error)


def _load(registry: ToolRegistry, plugin: PluginInfo, source: Path | EntryPoint) -> PluginInfo:
    if plugin.error is not None:
        return plugin
    package = _module_name(source) if isinstance(source, Path) else None
    loaded_before = f"{package}.register" in sys.modules
    try:
        register = _register_of_folder(source) if isinstance(source, Path) else _register_of_entry_point(source)
        return replace(plugin, tools=tuple(registry.register_together(register)))
    except (Exception, SystemExit) as exc:  # noqa: BLE001  # foreign code ends here: its trouble stays its own
        if package is not None and not loaded_before:
            # The next attempt finds the mended files, not half of the broken modules.
            for module in [module for module in sys.modules if f"{module}.".startswith(f"{package}.")]:
                del sys.modules[module]
        return replace(plugin, error=_describe(exc, source))


def _register_of_folder(folder: Path) -> _Register:
    name = _module_name(folder)
    if f"{name}.register" not in sys.modules:
        importlib.invalidate_caches()
        _import_package(name, folder)
        importlib.import_module(f"{name}.register")
    return _register_in(sys.modules[f"{name}.register"], str(folder / "register.py"))


def _module_name(folder: Path) -> str:
    """A name no other folder has, so that plugins of one name in two directories are two packages."""
    digest = hashlib.sha256(str(folder).encode(errors="surrogateescape")).hexdigest()[:12]
    return f"conductor_ai_plugin_{digest}_{re.sub(r'[^0-9a-zA-Z_]', '_', folder.name)}"


def _import_package(name: str, folder: Path) -> None:
    start = folder / "__init__.py"
    locations = [str(folder)]
    if start.is_file():
        spec = spec_from_file_location(name, start, submodule_search_locations=locations)
    else:
        spec = ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = locations
    if spec is None or (start.is_file() and spec.loader is None):
        raise PluginError(f"{start} cannot be imported")
    module = module_from_spec(spec)
    sys.modules[name] = module
    if spec.loader is not None:
        spec.loader.exec_module(module)


def _register_of_entry_point(point: EntryPoint) -> _Register:
    target = point.load()
    return target if callable(target) else _register_in(target, point.value)


def _register_in(module: Any, where: str) -> _Register:
    register: _Register | None = getattr(module, "register", None)
    if not callable(register):
        raise PluginError(f"{where} defines no function register(global_registry)")
    return register


def _describe(exc: BaseException, source: Path | EntryPoint) -> str:
    text = " ".join(str(exc).split())
    if isinstance(exc, SyntaxError):
        return f"{exc.filename}:{exc.lineno}: {type(exc).__name__}: {exc.msg}"
    if not isinstance(exc, ConductorError):
        text = f"{type(exc).__name__}: {text}" if text else type(exc).__name__
    elif exc.hint:
        text = f"{text} ({exc.hint})"
    frames = [frame for frame in traceback.extract_tb(exc.__traceback__) if _is_inside(frame.filename, source)]
    return f"{frames[-1].filename}:{frames[-1].lineno}: {text}" if frames else text


def _is_inside(file: str, source: Path | EntryPoint) -> bool:
    if isinstance(source, Path):
        return Path(file).is_relative_to(source)
    return source.module.partition(".")[0] in Path(file).with_suffix("").parts
