"""Plugins that work, and every way in which one can be broken without harm to another."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from conductor_ai.errors import InvalidInput, InvalidTool
from conductor_ai.tools.registry import PluginInfo, PluginLoader, ToolRegistry

_TOOLS = '''
from conductor_ai.sdk import PluginRegistry
from .answers import ANSWER
registry = PluginRegistry()

@registry.tool(name="{tool}")
async def answer() -> str:
    """Answer."""
    return ANSWER
'''

_REGISTER = """
from .tools import registry

def register(global_registry):
    for tool in registry.tools:
        global_registry.register(tool)
"""


def write_plugin(folder: Path, tool: str, *, answer: str = "42", register: str = _REGISTER) -> Path:
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "answers.py").write_text(f"ANSWER = {answer!r}\n")
    (folder / "tools.py").write_text(_TOOLS.format(tool=tool))
    (folder / "register.py").write_text(register)
    return folder


@pytest.fixture
def registry() -> ToolRegistry:
    return ToolRegistry()


@pytest.fixture(autouse=True)
def _no_modules_left() -> Iterator[None]:
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


def names(registry: ToolRegistry) -> list[str]:
    return [definition.name for definition in registry.definitions]


async def test_a_plugin_is_found_imported_and_registered(tmp_path: Path, registry: ToolRegistry) -> None:
    folder = write_plugin(tmp_path / "mine", "answer")

    assert PluginLoader.discover_plugins(tmp_path) == [PluginInfo("mine", str(folder))]
    assert PluginLoader.discover_and_register(registry, plugins_dir=f"{tmp_path}/") == [
        PluginInfo("mine", str(folder), ("answer",))
    ]
    assert (await registry.get_tool("answer").run({})).result == "42"


async def test_two_folders_of_one_name_in_two_directories_both_load(tmp_path: Path, registry: ToolRegistry) -> None:
    write_plugin(tmp_path / "a" / "mine", "first", answer="from a")
    write_plugin(tmp_path / "b" / "mine", "second", answer="from b")

    for directory in ("a", "b"):
        [plugin] = PluginLoader.discover_and_register(registry, tmp_path / directory)
        assert plugin.error is None

    assert (await registry.get_tool("first").run({})).result == "from a"
    assert (await registry.get_tool("second").run({})).result == "from b"


def test_loading_twice_registers_once_and_lists_the_same(tmp_path: Path, registry: ToolRegistry) -> None:
    write_plugin(tmp_path / "mine", "answer")

    first = PluginLoader.discover_and_register(registry, tmp_path)
    second = PluginLoader.discover_and_register(registry, tmp_path / ".." / tmp_path.name)

    assert first == second
    assert names(registry) == ["answer"]


def test_what_is_no_plugin_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "register.py").write_text("raise SystemExit")
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "left.py").write_text("")
    (tmp_path / ".new-x").mkdir()
    (tmp_path / ".new-x" / "register.py").write_text("raise SystemExit")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "cars.csv").write_text("")

    assert PluginLoader.discover_plugins(tmp_path) == []


def test_a_folder_with_a_misspelt_register_file_is_reported(tmp_path: Path, registry: ToolRegistry) -> None:
    folder = write_plugin(tmp_path / "mine", "answer")
    (folder / "register.py").rename(folder / "registre.py")
    write_plugin(tmp_path / "other", "other")

    mine, other = PluginLoader.discover_and_register(registry, tmp_path)

    assert mine.error == f"{folder} has Python files but no register.py: write one, or keep the files elsewhere"
    assert PluginLoader.discover_plugins(tmp_path)[0] == mine
    assert other.tools == ("other",)


def test_a_plugin_needs_no_init_file_and_no_python_name(tmp_path: Path, registry: ToolRegistry) -> None:
    folder = write_plugin(tmp_path / "my.own-plugin", "answer")
    (folder / "__init__.py").unlink()

    [plugin] = PluginLoader.discover_and_register(registry, tmp_path)

    assert (plugin.name, plugin.tools, plugin.error) == ("my.own-plugin", ("answer",), None)


def test_skipped_plugins_are_not_even_imported(tmp_path: Path, registry: ToolRegistry) -> None:
    write_plugin(tmp_path / "loud", "loud", register="raise SystemExit")
    write_plugin(tmp_path / "mine", "answer")

    found = PluginLoader.discover_and_register(registry, tmp_path, skip={"loud"})

    assert [(plugin.name, plugin.error) for plugin in found] == [("mine", None)]


def test_of_a_folder_only_what_is_named_is_loaded(tmp_path: Path, registry: ToolRegistry) -> None:
    write_plugin(tmp_path / "loud", "loud", register="raise SystemExit")
    write_plugin(tmp_path / "mine", "answer")

    found = PluginLoader.discover_and_register(registry, tmp_path, only={"mine", "nobody"})

    assert [(plugin.name, plugin.error) for plugin in found] == [("mine", None)]


_HALF = _REGISTER + "    raise RuntimeError('lost the\\n database')\n"
_ASYNC = _REGISTER.replace("def register", "async def register")
_RUBBISH = "def register(global_registry):\n    global_registry.register('tool')\n"


@pytest.mark.parametrize(
    ("register", "line", "words"),
    [
        ("def register(:\n", 1, "SyntaxError"),
        ("import os\nraise ValueError('no luck')\n", 2, "ValueError: no luck"),
        ("import nothing_of_that_name\n", 1, "No module named 'nothing_of_that_name'"),
        ("from .tools import nothing\n", 1, "cannot import name 'nothing'"),
        ("from ..other import thing\n", 1, "ImportError: attempted relative import beyond top-level package"),
        ("\nraise SystemExit(3)\n", 2, "SystemExit: 3"),
        ("pass\n", None, "defines no function register(global_registry)"),
        ("register = 3\n", None, "defines no function register(global_registry)"),
        (_HALF, 7, "RuntimeError: lost the database"),
        (_ASYNC, None, "register must be a plain def"),
        (_RUBBISH, 2, "'tool' is not an instance of BaseTool (derive it from BaseTool)"),
        ("def register():\n    pass\n", None, "TypeError"),
        (b"x = '\\x00'\n".decode("unicode_escape"), None, "null bytes"),
    ],
)
def test_a_broken_plugin_is_reported_and_harms_nobody(
    tmp_path: Path, registry: ToolRegistry, register: str, line: int | None, words: str
) -> None:
    for name in ("a_good", "z_good"):
        write_plugin(tmp_path / name, name)
    broken_folder = write_plugin(tmp_path / "broken", "half_registered", register=register)

    first, broken, last = PluginLoader.discover_and_register(registry, tmp_path)

    assert (first.tools, last.tools, first.error, last.error) == (("a_good",), ("z_good",), None, None)
    assert (broken.name, broken.tools) == ("broken", ())
    assert words in str(broken.error)
    assert "\n" not in str(broken.error)
    if line is not None:
        assert str(broken.error).startswith(f"{broken_folder / 'register.py'}:{line}: ")
    assert names(registry) == ["a_good", "z_good"]
    assert not [name for name in sys.modules if "_broken" in name]


def test_the_line_named_is_the_plugins_own_also_in_another_of_its_files(tmp_path: Path, registry: ToolRegistry) -> None:
    folder = write_plugin(tmp_path / "mine", "answer")
    (folder / "answers.py").write_text("\nimport json\nANSWER = json.loads('{')\n")

    [plugin] = PluginLoader.discover_and_register(registry, tmp_path)

    assert str(plugin.error).startswith(f"{folder / 'answers.py'}:3: JSONDecodeError: ")


def test_a_broken_tool_says_where_it_is_written_and_what_to_mend(tmp_path: Path, registry: ToolRegistry) -> None:
    folder = write_plugin(tmp_path / "mine", "answer")
    (folder / "tools.py").write_text(_TOOLS.format(tool="answer").replace("async def", "def"))

    [plugin] = PluginLoader.discover_and_register(registry, tmp_path)

    assert str(plugin.error).startswith(f"{folder / 'tools.py'}:6: tool 'answer' is a plain def: write async def")
    assert "asyncio.to_thread" in str(plugin.error)


def test_a_mended_plugin_loads_on_the_next_attempt(tmp_path: Path, registry: ToolRegistry) -> None:
    folder = write_plugin(tmp_path / "mine", "answer", register="from .later import register\n")

    [broken] = PluginLoader.discover_and_register(registry, tmp_path)
    (folder / "later.py").write_text(_REGISTER)
    [mended] = PluginLoader.discover_and_register(registry, tmp_path)

    assert "No module named" in str(broken.error)
    assert mended.tools == ("answer",)


def test_a_loaded_plugin_keeps_its_modules_when_another_registry_refuses_it(
    tmp_path: Path, registry: ToolRegistry
) -> None:
    write_plugin(tmp_path / "one" / "mine", "answer")
    write_plugin(tmp_path / "two" / "other", "answer")
    PluginLoader.discover_and_register(registry, tmp_path / "one")
    loaded = {name for name in sys.modules if name.endswith("_mine.tools")}
    full = ToolRegistry()
    PluginLoader.discover_and_register(full, tmp_path / "two")

    [refused] = PluginLoader.discover_and_register(full, tmp_path / "one")

    assert "two tools are called 'answer'" in str(refused.error)
    assert loaded
    assert loaded <= sys.modules.keys()


def test_a_tool_name_used_by_two_plugins_names_both_and_keeps_the_first(tmp_path: Path, registry: ToolRegistry) -> None:
    first = write_plugin(tmp_path / "first", "answer")
    second = write_plugin(tmp_path / "second", "answer")

    loaded, refused = PluginLoader.discover_and_register(registry, tmp_path)

    assert loaded.tools == ("answer",)
    assert f"one in {first / 'tools.py'} (answer), one in {second / 'tools.py'} (answer)" in str(refused.error)
    assert names(registry) == ["answer"]


def test_tools_cannot_be_slipped_in_after_register_has_returned(tmp_path: Path, registry: ToolRegistry) -> None:
    kept: list[ToolRegistry] = []
    registry.register_together(kept.append)
    write_plugin(tmp_path / "mine", "answer")
    PluginLoader.discover_and_register(registry, tmp_path)

    with pytest.raises(InvalidTool, match="while its register function runs"):
        kept[0].register(registry.get_tool("answer"))


def test_a_linked_folder_is_refused_and_not_imported(tmp_path: Path, registry: ToolRegistry) -> None:
    outside = write_plugin(tmp_path / "outside" / "evil", "evil", register="raise SystemExit")
    plugins = tmp_path / "plugins"
    half_linked = write_plugin(plugins / "half", "half")
    (half_linked / "register.py").unlink()
    (half_linked / "register.py").symlink_to(outside / "register.py")
    (plugins / "evil").symlink_to(outside, target_is_directory=True)

    found = PluginLoader.discover_and_register(registry, plugins)

    assert [plugin.name for plugin in found] == ["evil", "half"]
    assert all("is a symbolic link" in str(plugin.error) for plugin in found)
    assert registry.tools == []


def test_a_linked_plugins_folder_is_the_folder_it_points_at(tmp_path: Path, registry: ToolRegistry) -> None:
    write_plugin(tmp_path / "real" / "mine", "answer")
    (tmp_path / "link").symlink_to(tmp_path / "real", target_is_directory=True)

    PluginLoader.discover_and_register(registry, tmp_path / "real")
    [plugin] = PluginLoader.discover_and_register(registry, tmp_path / "link")

    assert plugin.error is None
    assert names(registry) == ["answer"]


def test_a_named_folder_must_exist_and_the_default_need_not(
    tmp_path: Path, registry: ToolRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")

    assert PluginLoader.discover_and_register(registry) == []
    for named in ("plugins/", tmp_path / "nowhere", tmp_path / "file"):
        with pytest.raises(InvalidInput, match="cannot be read"):
            PluginLoader.discover_and_register(registry, plugins_dir=named)

    write_plugin(tmp_path / "plugins" / "mine", "answer")
    assert [plugin.tools for plugin in PluginLoader.discover_and_register(registry)] == [("answer",)]


def install(site: Path, name: str, value: str) -> None:
    info = site / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[conductor_ai.plugins]\n{name} = {value}\n")


def test_installed_packages_join_the_one_manifest(
    tmp_path: Path, registry: ToolRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    for name, value in (
        ("installed_module", "installed_module.register"),
        ("installed_function", "installed_function.register:register"),
    ):
        write_plugin(site / name, f"{name}_answer")
        install(site, name, value)
    write_plugin(site / "installed_broken", "x", register="\n1 / 0\n")
    install(site, "installed_broken", "installed_broken.register")
    monkeypatch.syspath_prepend(site)
    plugins = tmp_path / "plugins"
    write_plugin(plugins / "mine", "answer")

    found = PluginLoader.discover_and_register(registry, plugins)

    assert [(plugin.name, plugin.tools) for plugin in found] == [
        ("mine", ("answer",)),
        ("installed_broken", ()),
        ("installed_function", ("installed_function_answer",)),
        ("installed_module", ("installed_module_answer",)),
    ]
    assert found[3].path == "installed_module.register"
    assert str(found[1].error) == f"{site}/installed_broken/register.py:2: ZeroDivisionError: division by zero"
