"""What `demo/scripted` does on `conductor demo --full`: a page, a database, code. Only the model is scripted."""

from __future__ import annotations

import re
from typing import Any

from conductor_ai.providers.scripted import Line, Moment
from conductor_ai.schemas import json_text

FULL_DEMO_TOOLS = ("web_fetch", "sql_query", "code_run")

_TASK = (
    "Which states sell fewer cars than their demand index says? The index is at {url}, our sales are in the database."
    " Make a table and a plot."
)
_URL = re.compile(re.escape(_TASK).replace(r"\{url\}", r"(http://127\.0\.0\.1:\d+/\S+)"))

_SALES = """
SELECT d.state, count(DISTINCT d.dealer_id) AS dealers, sum(s.cars) AS cars
FROM dealers d JOIN sales s ON s.dealer_id = d.dealer_id
WHERE s.month >= :since
GROUP BY d.state ORDER BY d.state
"""
_CODE = """
import csv, json, re

page = open("index.md").read()
index = {state: float(value) for state, value in re.findall(r"^\\| *([A-Z]{2}) *\\| *([0-9.]+)", page, re.M)}
rows = [row for row in json.load(open("sales.json")) if row["state"] in index]
sold, wanted = sum(row["cars"] for row in rows), sum(index[row["state"]] for row in rows)
for row in rows:
    row["expected"] = round(sold * index[row["state"]] / wanted)
    row["gap"] = row["cars"] - row["expected"]
rows.sort(key=lambda row: row["gap"])
with open("gaps.csv", "w", newline="") as file:
    table = csv.DictWriter(file, ["state", "dealers", "cars", "expected", "gap"])
    table.writeheader()
    table.writerows(rows)

try:
    import matplotlib.pyplot as plot
except ImportError:  # without the extra "data"
    from html import escape
    most = max(abs(row["gap"]) for row in rows) or 1
    bars = "".join(
        f'<text x="4" y="{24 * n + 17}">{escape(row["state"])} {row["gap"]:+d}</text>'
        f'<rect x="90" y="{24 * n + 4}" width="{abs(row["gap"]) / most * 300:.0f}" height="16"/>'
        for n, row in enumerate(rows)
    )
    with open("gaps.svg", "w") as file:
        file.write(f'<svg xmlns="http://www.w3.org/2000/svg" width="400" height="{24 * len(rows) + 8}">{bars}</svg>')
else:
    plot.figure(figsize=(6, 3))
    plot.bar([row["state"] for row in rows], [row["gap"] for row in rows])
    plot.ylabel("cars above or below the index")
    plot.tight_layout()
    plot.savefig("gaps.png")
print(json.dumps([row for row in rows if row["gap"] < 0]))
"""


def full_demo_task(url: str) -> str:
    return _TASK.format(url=url)


def is_full_demo(prompt: str) -> bool:
    return _URL.fullmatch(prompt) is not None


def full_demo_script(moment: Moment) -> Line:
    """The next line of the session that `full_demo_task` began."""
    failed = [reply for reply in moment.replies if reply.is_error]
    if failed:
        return Line(f"[scripted] {failed[0].tool} did not run: {failed[0].content}")
    if moment.turn == 0:
        found = _URL.fullmatch(moment.prompt)
        assert found is not None, "the script was chosen by this"
        return Line(
            "I read the index and ask the database.",
            (
                ("web_fetch", {"url": found.group(1)}),
                ("sql_query", {"sql": _SALES.strip(), "params": {"since": "2026-01"}}),
            ),
        )
    if moment.turn == 1:
        page, sales = (reply.data for reply in moment.replies)
        return Line("Now the two together, in code.", (("code_run", _run(page["content"], _rows(sales))),))
    ran = moment.replies[0].data
    if ran["killed_by"] != "none" or ran["exit_code"] != 0:
        return Line(f"[scripted] The code failed: {ran['stderr'][-500:]}")
    behind = json_text.loads(ran["stdout"])
    listed = "\n".join(
        f"- {row['state']}: {row['cars']} cars sold, {row['expected']} by the index ({row['gap']:+d})" for row in behind
    )
    files = ", ".join(file["name"] for file in ran["files"])
    return Line(f"These states sell fewer cars than the demand index says:\n{listed}\nThe table and the plot: {files}")


def _run(page: str, sales: list[dict[str, Any]]) -> dict[str, Any]:
    files = [{"name": "index.md", "content": page}, {"name": "sales.json", "content": json_text.dumps(sales)}]
    return {"language": "python", "code": _CODE.lstrip(), "files": files}


def _rows(answer: dict[str, Any]) -> list[dict[str, Any]]:
    names = [column["name"] for column in answer["columns"]]
    return [dict(zip(names, row, strict=True)) for row in answer["rows"]]
