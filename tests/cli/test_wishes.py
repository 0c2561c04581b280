"""What a person asks of the model on the command line: a schema, an image, how it shall answer."""

from __future__ import annotations

import base64
import json
from pathlib import Path

from tests.cli.console import Console
from tests.cli.model_server import ModelServer
from tests.schemas.pictures import png

SCHEMA = {"type": "object", "properties": {"count": {"type": "integer"}}, "required": ["count"]}
MODELS = '[models."local/tiny"]\nvision = true\n'


def models_file(console: Console) -> Path:
    folder = console.folder / ".conductor"
    folder.mkdir(exist_ok=True)
    return folder / "models.toml"


def test_an_answer_that_fits_a_schema_is_json_on_standard_output(console: Console, model: ModelServer) -> None:
    (console.folder / "schema.json").write_text(json.dumps(SCHEMA))
    model.will_answer("There are three.")
    model.will_answer('{"count": 3}')
    ended = console("run", "how many?", "--response-schema", "schema.json")
    assert (ended.code, ended.out) == (0, '{"count":3}\n')
    assert "step 1  the answer was not taken: it does not fit" in ended.err
    model.will_answer('{"count": 3}')
    assert console("run", "how many?", "--response-schema", "schema.json", "--json").json["output"] == {"count": 3}


def test_an_answer_that_never_fits_is_a_failure(console: Console, model: ModelServer) -> None:
    (console.folder / "schema.json").write_text(json.dumps(SCHEMA))
    model.will_answer("three")
    model.will_answer('{"count": "three"}')
    ended = console("run", "how many?", "--response-schema", "schema.json")
    assert (ended.code, ended.out) == (1, "")
    assert "does not fit the schema" in ended.err and "add a message to let it try again" in ended.err
    session_id = ended.err.partition("session ")[2].split()[0]
    assert f'go on:   conductor run "..." --continue {session_id}' in ended.err
    shown = console("sessions", "show", session_id, "--json").json
    assert (shown["failure"]["code"], shown["failure"]["resumable"]) == ("answer_invalid", False)
    assert "not taken: it does not fit" in console("sessions", "show", session_id).out


def test_an_image_file_is_sent(console: Console, model: ModelServer) -> None:
    models_file(console).write_text(MODELS)
    (console.folder / "dot.png").write_bytes(png())
    model.will_answer("Grey.")
    assert console("run", "what is this?", "--image", "dot.png").out == "Grey.\n"
    parts = model.requests[0]["messages"][-1]["content"]
    data = f"data:image/png;base64,{base64.b64encode(png()).decode()}"
    assert {"type": "image_url", "image_url": {"url": data}} in parts
    assert {"type": "text", "text": "what is this?"} in parts


def test_temperature_and_effort_are_sent(console: Console, model: ModelServer) -> None:
    models_file(console).write_text('[models."local/tiny"]\nreasoning = "effort"\n')
    model.will_answer("Yes.")
    assert console("run", "go", "--temperature", "0.5", "--reasoning-effort", "low").code == 0
    assert (model.requests[0]["temperature"], model.requests[0]["reasoning_effort"]) == (0.5, "low")


def test_what_cannot_be_is_one_line_and_exit_code_2(console: Console, model: ModelServer) -> None:
    (console.folder / "text.json").write_text("not json")
    (console.folder / "list.json").write_text("[]")
    (console.folder / "typo.json").write_text('{"type": "object", "properties": {"a": {"type": "strin"}}}')
    (console.folder / "large.json").write_text(" " * 300_000)
    (console.folder / "text.png").write_text("no image")
    for arguments, said in (
        (["--response-schema", "text.json"], "text.json: it is not JSON"),
        (["--response-schema", "list.json"], "list.json: it is not a JSON schema"),
        (["--response-schema", "none.json"], "none.json: there is no such file"),
        (["--response-schema", "typo.json"], "typo.json: response_schema is not a JSON schema that can be used: pro"),
        (["--response-schema", ""], "there is no such file"),
        (["--response-schema", "large.json"], "large.json: it is larger than 256 KiB"),
        (["--image", "/dev/zero"], "/dev/zero: there is no such file"),
        (["--image", "none.png"], "none.png: there is no such file"),
        (["--image", "text.png"], "is no PNG, JPEG, GIF or WebP image"),
        (["--temperature", "hot"], "temperature must be a number from 0 to 2"),
        (["--reasoning-effort", "max"], "reasoning_effort must be one of none, low, medium, high"),
        (["--reasoning-effort", "low"], "has no setting for reasoning_effort"),
    ):
        ended = console("run", "go", *arguments)
        assert (ended.code, ended.out) == (2, ""), arguments
        assert said in ended.err and ended.err.count("error:") == 1, ended.err
    assert model.requests == []


def test_what_a_session_keeps_cannot_change_with_a_message(console: Console, model: ModelServer) -> None:
    model.will_answer("Yes.")
    session_id = console("run", "go", "--json").json["session_id"]
    ended = console("run", "again", "--continue", session_id, "--temperature", "1")
    assert ended.code == 2 and "--temperature cannot change with --continue" in ended.err
