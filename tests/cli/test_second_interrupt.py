"""The second Ctrl-C, where the clean stop itself hangs."""

import os
import signal

from tests.cli.console import Console
from tests.cli.model_server import ModelServer

STUBBORN = '''
import asyncio

from conductor_ai.sdk import PluginRegistry

registry = PluginRegistry()


@registry.tool
async def dig(hole: str) -> str:
    """Dig, whatever happens.

    Args:
        hole: Where.
    """
    with open("news", "w", buffering=1) as news:
        print("digging", file=news)
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                print("was told to stop", file=news)


def register(global_registry):
    for tool in registry.tools:
        global_registry.register(tool)
'''


def test_a_second_interrupt_leaves_at_once_and_the_session_can_be_resumed(console: Console, model: ModelServer) -> None:
    folder = console.folder / "plugins" / "digger"
    folder.mkdir(parents=True)
    (folder / "register.py").write_text(STUBBORN)
    os.mkfifo(console.folder / "news")
    model.will_call(("dig", {"hole": "here"}))
    with console.start("run", "dig here") as process, (console.folder / "news").open() as news:
        assert news.readline() == "digging\n"
        process.send_signal(signal.SIGINT)
        assert news.readline() == "was told to stop\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
    session_id = console.here("sessions", "list", "--json").json[0]["session_id"]
    model.will_answer("The outcome of the digging is unknown.")
    resumed = console.here("resume", session_id)
    session = console.here("sessions", "show", session_id, "--json").json
    assert "outcome unknown" in resumed.err
    assert session["steps"][0]["tool_calls"][0]["outcome"] == "unknown"
    assert session["status"] == "completed"
