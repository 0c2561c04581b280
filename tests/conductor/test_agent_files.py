"""Agents in files: what a good one gives, what is wrong with a bad one, and that no name leads out of the folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import AsyncExitStack
from decimal import Decimal
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from conductor_ai.conductor import StartRequest
from conductor_ai.conductor.agent_files import MAX_BYTES, AgentSpec, find_agent, load_agents
from conductor_ai.errors import InvalidInput, MissingKey, UnknownAgent
from conductor_ai.schemas.events import EventType
from conductor_ai.schemas.limits import Limits
from conductor_ai.settings import Settings
from conductor_ai.wiring import open_conductor, plan_run
from tests.agents.conftest import TASK

CLERK = """
name = "clerk"
description = "Looks dealers up."
instructions = '''
Answer briefly.
Say where you looked.
'''
model = "demo/scripted"
tools = ["find_dealers", "dealer_details"]

[limits]
max_steps = 7
max_cost_usd = 0.1
"""
PLAIN = 'name = "{0}"\ndescription = "Does {0}."\ninstructions = "Do {0}."\n'


def write(folder: Path, name: str, text: str | bytes) -> Path:
    folder.mkdir(exist_ok=True)
    file = folder / f"{name}.toml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def error_of(folder: Path, text: str | bytes, name: str = "bad") -> str:
    """What is said of a file with `text`, beside which a good one must stay usable."""
    file = write(folder, name, text)
    write(folder, "good", PLAIN.format("good"))
    agents = {agent.name: agent for agent in load_agents(folder)}
    assert (agents["good"].error, agents["good"].instructions) == (None, "Do good.")
    error = agents[name].error
    assert error is not None
    assert error.isprintable()
    named, said = error.split(": ", 1)
    assert named == (str(file) if name.isprintable() else ascii(str(file)))
    assert len(said) <= 500
    return said


def test_a_file_gives_everything_an_agent_is(tmp_path: Path) -> None:
    file = write(tmp_path, "clerk", CLERK)

    assert load_agents(tmp_path) == [
        AgentSpec(
            name="clerk",
            path=str(file),
            description="Looks dealers up.",
            instructions="Answer briefly.\nSay where you looked.",
            models=("demo/scripted",),
            tools=("find_dealers", "dealer_details"),
            limits=Limits(max_steps=7, max_cost_usd=Decimal("0.1")),
        )
    ]


def test_what_a_file_leaves_out_stays_open(tmp_path: Path) -> None:
    write(tmp_path, "plain", PLAIN.format("plain"))
    [agent] = load_agents(tmp_path)

    assert (agent.model, agent.tools, agent.limits, agent.error) == (None, None, Limits(), None)


def test_only_toml_files_are_agents_and_they_come_by_name(tmp_path: Path) -> None:
    for name in ("b", "a-1", "0_x"):
        write(tmp_path, name, PLAIN.format(name))
    (tmp_path / "README.md").write_text("no agent")
    (tmp_path / ".hidden.toml").write_text("no agent")
    (tmp_path / "folder").mkdir()

    assert [(agent.name, agent.error) for agent in load_agents(tmp_path)] == [("0_x", None), ("a-1", None), ("b", None)]


BAD = PLAIN.format("bad")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "name is missing"),
        ('name = "bad"\ndescription = "x"', "instructions is missing"),
        (
            BAD + 'modell = "x"',
            "unknown key 'modell' (keys are: name, description, instructions, model, models, tools, limits, ",
        ),
        (PLAIN.format("other"), "name must be 'bad', as the file is called, got 'other'"),
        (BAD.replace('"Does bad."', "3"), "description must be text, got a number"),
        (BAD.replace('"Does bad."', '" "'), "description is empty"),
        (BAD.replace('"Do bad."', '["Do bad."]'), "instructions must be text, got a list"),
        (BAD + 'model = "a/b"\nmodels = ["c/d"]', "model and models: name one of the two"),
        (BAD + 'models = "a/b"', 'models must be a list of names (models = ["...", "..."])'),
        (BAD + 'models = ["a/b", "a/b"]', "models: 'a/b' is named twice"),
        (BAD + "model = true", "model must be text, got true or false"),
        (BAD + "model = 2026-11-23", "model must be text, got a date or a time"),
        (BAD + 'tools = "web_fetch"', 'tools must be a list of names (tools = ["...", "..."])'),
        (BAD + "tools = [1]", 'tools must be a list of names (tools = ["...", "..."])'),
        (BAD + 'tools = ["a", "b", "a"]', "tools: 'a' is named twice"),
        (BAD + "limits = 3", "limits must be a table, got a number ([limits])"),
        (BAD + "limits.max_setps = 3", "limits: unknown limit 'max_setps' (limits are: max_steps, "),
        (BAD + "limits.max_steps = 0", "limits: limit max_steps must be above zero, got 0"),
        (BAD + "limits.max_steps = true", "limits: limit max_steps must be a number (int), got True"),
        (BAD + f"limits.max_steps = '{'x' * 3000}'", "limits: limit max_steps must be a number (int), got 'xxx"),
        (BAD + "limits.max_cost_usd = inf", "limits: limit max_cost_usd must be an amount in US dollars above zero"),
        (BAD + "limits.max_steps = 0x" + "f" * 5000, "limits: a number is too long"),
        (BAD + "limits.max_steps = " + "9" * 5000, "it is not TOML: "),
        (BAD + "parameters = 3", "parameters must be a table, got a number ([parameters])"),
        (BAD + "parameters.heat = 3", "parameters: unknown parameter 'heat' (parameters are: temperature, "),
        (BAD + "parameters.temperature = nan", "parameters: temperature must be a number from 0 to 2, got nan"),
        (BAD + "response_schema = 3", "response_schema must be a JSON schema, as JSON text or as a table"),
        (BAD + "response_schema = '{'", "response_schema is not JSON: "),
        (BAD + "response_schema = '[]'", "response_schema must be a JSON schema, as JSON text or as a table"),
        (BAD + "response_schema.type = 'array'", "response_schema must describe an object"),
        (BAD + "name = 'bad'", "it is not TOML: "),
        ("name: bad", "it is not TOML: "),
        ("x = " + "[" * 100_000, "it is not TOML: "),
        (b"name = '\xff'", "it is not UTF-8 text"),
        (b"\0\0", "it is not TOML: "),
        ("#" * (MAX_BYTES + 1), "it is larger than 256 KiB"),
    ],
)
def test_a_broken_file_is_named_with_its_key_and_harms_no_other(tmp_path: Path, text: str | bytes, said: str) -> None:
    assert error_of(tmp_path, text).startswith(said)


def test_a_file_of_exactly_the_largest_size_is_read(tmp_path: Path) -> None:
    text = PLAIN.format("big")
    write(tmp_path, "big", text + "#" * (MAX_BYTES - len(text)))

    assert [agent.error for agent in load_agents(tmp_path)] == [None]


@pytest.mark.parametrize("name", ["Bad", "bad.agent", "-bad", "_bad", "b d", "bäd", "b" * 65, "%2e%2e%2fbad", "b\nad"])
def test_a_file_whose_name_no_agent_may_have_is_broken(tmp_path: Path, name: str) -> None:
    assert error_of(tmp_path, PLAIN.format("bad"), name=name).startswith("its name must be 1 to 64 of a-z")


def test_a_link_is_refused_wherever_it_leads(tmp_path: Path) -> None:
    folder = tmp_path / "agents"
    elsewhere = write(tmp_path / "elsewhere", "secret", PLAIN.format("secret"))
    write(folder, "good", PLAIN.format("good"))
    (folder / "secret.toml").symlink_to(elsewhere)
    (folder / "nearby.toml").symlink_to(folder / "good.toml")
    (folder / "dangling.toml").symlink_to(folder / "nowhere")

    errors = {agent.name: agent.error or "" for agent in load_agents(folder)}

    assert errors.pop("good") == ""
    assert all("it is a symbolic link" in error for error in errors.values())
    assert errors.keys() == {"secret", "nearby", "dangling"}


def test_what_is_no_plain_file_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    (tmp_path / "folder.toml").mkdir()
    os.mkfifo(tmp_path / "pipe.toml")

    assert ["it is no plain file" in (agent.error or "") for agent in load_agents(tmp_path)] == [True, True]


def test_a_folder_that_is_none_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"^the agents folder .*nowhere cannot be read: No such file or directory$"):
        load_agents(tmp_path / "nowhere")


def test_an_unknown_name_is_refused_with_near_ones(tmp_path: Path) -> None:
    for name in ("researcher", "clerk"):
        write(tmp_path, name, PLAIN.format(name))
    agents = load_agents(tmp_path)

    hints = {}
    for name in ("reseacher", "zzz"):
        with pytest.raises(UnknownAgent) as caught:
            find_agent(agents, name)
        hints[name] = caught.value.hint
    assert hints == {"reseacher": "did you mean researcher?", "zzz": "agents are: clerk, researcher"}
    with pytest.raises(UnknownAgent) as none_there:
        find_agent([], "clerk")
    assert none_there.value.hint == "there is no agent"


def test_a_broken_agent_cannot_be_used_and_says_why(tmp_path: Path) -> None:
    write(tmp_path, "bad", "nonsense")

    with pytest.raises(InvalidInput, match=r"agent bad cannot be used: .*bad\.toml: it is not TOML"):
        find_agent(load_agents(tmp_path), "bad")


OUTSIDE = ["../outside", "./clerk", "clerk.toml", "agents/clerk", "..", ".", "", "clerk\0", "clerk/../clerk", "CLERK"]


def folder_with_a_neighbour(tmp_path: Path) -> Path:
    folder = tmp_path / "agents"
    write(folder, "clerk", CLERK)
    write(tmp_path, "outside", PLAIN.format("outside"))
    return folder


@pytest.mark.parametrize(
    "name", [*OUTSIDE, *(quote(name, safe="") for name in OUTSIDE[:4] if "/" in name), "a" * 10**6]
)
def test_no_name_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    agents = load_agents(folder_with_a_neighbour(tmp_path))

    with pytest.raises(UnknownAgent) as caught:
        find_agent(agents, name)
    assert len(str(caught.value)) < 200
    with pytest.raises(UnknownAgent):
        find_agent(agents, str(tmp_path / "outside"))


SPEC = AgentSpec(name="clerk", path="agents/clerk.toml")


@given(name=st.text(max_size=80))
@example(name="clerk")
def test_a_name_is_the_agents_own_or_unknown(name: str) -> None:
    try:
        found = find_agent([SPEC], name)
    except UnknownAgent:
        assert name != "clerk"
    else:
        assert (name, found) == ("clerk", SPEC)


@given(
    content=st.one_of(
        st.binary(max_size=300),
        st.text(max_size=300).map(lambda text: text.encode(errors="surrogatepass")),
        st.text("[]{}=.,\"'\n0x9ea_#-: ", max_size=200).map(lambda text: (BAD + text).encode()),
    )
)
def test_whatever_a_file_holds_it_is_an_agent_or_one_line(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    folder = tmp_path_factory.getbasetemp() / "fuzzed"
    write(folder, "bad", content)

    [agent] = load_agents(folder)

    assert (agent.error is None) == (agent.instructions is not None)
    assert agent.error is None or (agent.error.isprintable() and len(agent.error) < 1000)


_WATCHED = """
import json, sys
from pathlib import Path
from conductor_ai.conductor.agent_files import load_agents
seen = []
def note(event, arguments):
    if event.split(".")[0] in ("open", "subprocess", "os", "socket", "import", "exec", "compile"):
        seen.append((event, str(arguments[0])))
sys.addaudithook(note)
agents = load_agents(Path(sys.argv[1]))
print(json.dumps([[agent.error for agent in agents], list(seen)]))
"""


def test_reading_agents_starts_no_process_and_opens_nothing_but_their_files(tmp_path: Path) -> None:
    write(tmp_path, "clerk", CLERK)
    write(tmp_path, "sly", PLAIN.format("sly").replace("Do sly.", "$(touch x) {{ 7*7 }} %(x)s ${HOME} `id`"))

    ended = subprocess.run(
        [sys.executable, "-c", _WATCHED, str(tmp_path)], capture_output=True, text=True, check=True, timeout=60
    )

    errors, seen = json.loads(ended.stdout)
    assert errors == [None, None]
    files = [["open", str(tmp_path / name)] for name in ("clerk.toml", "sly.toml")]
    assert seen[0] in (["os.listdir", str(tmp_path)], ["os.scandir", str(tmp_path)])  # which one, Python decides
    assert seen[1:] == files


@pytest.fixture
def clerk(conductor_home: Path) -> Path:
    """The file of an agent in the default folder."""
    return write(conductor_home.parent / "agents", "clerk", CLERK)


async def created(request: StartRequest) -> dict[str, object]:
    """What the log says of a session that `request` started."""
    async with open_conductor() as conductor:
        session = await conductor.start(request)
        assert session.agent == request.agent
        first = (await conductor.events(session.session_id))[0]
        assert first.type is EventType.SESSION_CREATED
        return dict(json.loads(json.dumps(first.payload)))


async def test_a_session_stores_what_its_agents_file_said(clerk: Path) -> None:
    config = await created(StartRequest(messages=TASK, agent="clerk"))

    assert (config["agent"], config["model"]) == ("clerk", "demo/scripted")
    assert config["tools"] == ["find_dealers", "dealer_details"]
    assert config["instructions"] == "Answer briefly.\nSay where you looked."
    assert config["limits"] == Limits(max_steps=7, max_cost_usd=Decimal("0.1")).to_dict()


async def test_what_the_request_says_wins_over_the_file_limit_by_limit(clerk: Path) -> None:
    write(clerk.parent, "clerk", CLERK.replace("demo/scripted", "nobody/nothing"))
    config = await created(
        StartRequest(
            messages=TASK,
            agent="clerk",
            model="demo/scripted",
            tools=[],
            instructions="Sing.",
            limits={"max_steps": 9, "deadline_s": None},
        )
    )

    assert (config["model"], config["tools"], config["instructions"]) == ("demo/scripted", [], "Sing.")
    limits = Limits(max_steps=9, max_cost_usd=Decimal("0.1"), deadline_s=None)
    assert config["limits"] == limits.to_dict()


async def test_limits_given_as_a_whole_replace_the_files(clerk: Path) -> None:
    config = await created(StartRequest(messages=TASK, agent="clerk", limits=Limits(max_tokens=5000)))

    assert config["limits"] == Limits(max_tokens=5000).to_dict()


ASKING = (
    CLERK
    + """
[parameters]
temperature = 0.5

[response_schema]
type = "object"
required = ["count"]
"""
)


async def test_a_file_says_how_the_model_is_asked_and_the_request_wins(clerk: Path) -> None:
    write(clerk.parent, "clerk", ASKING)
    config = await created(StartRequest(messages=TASK, agent="clerk"))
    assert config["response_schema"] == {"type": "object", "required": ["count"]}
    assert config["parameters"] == {"temperature": 0.5, "reasoning_effort": None}
    config = await created(
        StartRequest(messages=TASK, agent="clerk", parameters={"temperature": 1}, response_schema={"type": "object"})
    )
    assert config["response_schema"] == {"type": "object"}
    assert config["parameters"] == {"temperature": 1.0, "reasoning_effort": None}


async def test_a_session_goes_on_without_its_agents_file(clerk: Path) -> None:
    write(clerk.parent, "clerk", CLERK.replace("max_steps = 7", "max_steps = 1"))
    async with open_conductor() as conductor:
        session = await conductor.start(StartRequest(messages=TASK, agent="clerk"))
        paused = await conductor.run(session.session_id)
        assert paused.status == "paused"
    shutil.rmtree(clerk.parent)

    async with open_conductor() as conductor:
        resumed = await conductor.resume(session.session_id, limits={"max_steps": 2})

    assert (resumed.agent, len(resumed.steps)) == ("clerk", 2)


async def test_agents_are_read_when_somebody_asks(clerk: Path) -> None:
    async with open_conductor() as conductor:
        before = [agent.name for agent in await conductor.agents()]
        write(clerk.parent, "a-new-one", PLAIN.format("a-new-one"))
        after = [agent.name for agent in await conductor.agents()]

    assert (before, after) == (["clerk", "web-researcher"], ["a-new-one", "clerk", "web-researcher"])


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"agent": "clark"}, UnknownAgent, "unknown agent 'clark'"),
        ({"agent": "../agents/clerk"}, UnknownAgent, "unknown agent"),
        ({"agent": "broken"}, InvalidInput, "agent broken cannot be used"),
        ({"agent": "clerk", "limits": {"max_setps": 1}}, InvalidInput, "unknown limit 'max_setps'"),
        ({"agent": "clerk", "limits": "none"}, InvalidInput, "limits must be an object"),
        ({"models": ["demo/scripted", "claude-sonnet-5-5"]}, MissingKey, "ANTHROPIC_API_KEY"),
        ({"models": ["demo/scripted", "demo/scripted"]}, InvalidInput, "is named twice"),
    ],
)
async def test_what_cannot_be_is_refused_by_start_and_by_plan(
    clerk: Path, changes: dict[str, object], error: type[Exception], said: str
) -> None:
    write(clerk.parent, "broken", "?")
    request = StartRequest(messages=TASK, **changes)  # type: ignore[arg-type]

    async with AsyncExitStack() as stack:
        conductor = await stack.enter_async_context(open_conductor())
        with pytest.raises(error, match=said):
            await conductor.start(request)
        assert await conductor.sessions() == []
    with pytest.raises(error, match=said):
        plan_run(Settings.load(), request)


def test_a_plan_has_the_values_of_the_agent(clerk: Path) -> None:
    plan = plan_run(Settings.load(), StartRequest(messages=TASK, agent="clerk", limits={"max_steps": 3}))

    assert (plan["agent"], plan["model"], plan["instructions"]) == (
        "clerk",
        "demo/scripted",
        "Answer briefly.\nSay where you looked.",
    )
    assert [tool["name"] for tool in plan["tools"]] == ["find_dealers", "dealer_details"]
    assert (plan["limits"]["max_steps"], plan["limits"]["max_cost_usd"]) == (3, "0.1")
