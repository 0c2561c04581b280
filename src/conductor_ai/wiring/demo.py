"""What `demo/scripted` does on a first run: real tools over real input, only the model's choices are written down.

The script asks for what a model would ask for, and makes its answer out of what the tools replied: change the file of
dealers, and the answer changes.
"""

from __future__ import annotations

from typing import Any

from conductor_ai.providers.scripted import Line, Moment, Reply
from conductor_ai.wiring.demo_full import full_demo_script, is_full_demo

DEMO_TASK = "Which three dealers in California have the most cars in stock? Save them as the shortlist west-coast."
DEMO_TOOLS = ("find_dealers", "dealer_details", "save_shortlist")


def demo_script(moment: Moment) -> Line:
    """The next line; whatever was asked, it does the one thing it can and says that it is a script."""
    if is_full_demo(moment.prompt):
        return full_demo_script(moment)
    if moment.turn == 0:
        return Line("Let me see who is there.", (("find_dealers", {"state": "CA"}),))
    failed = [reply for reply in moment.replies if reply.is_error]
    if failed:
        return Line(f"[scripted] {failed[0].tool} failed: {failed[0].content}")
    if moment.turn == 1:
        dealers = moment.replies[0].data["dealers"]
        calls = tuple(("dealer_details", {"dealer_id": dealer["dealer_id"]}) for dealer in dealers)
        return Line("Their stock is in the details.", calls)
    best = _best(moment.history)
    if moment.turn == 2:
        dealer_ids = [dealer["dealer_id"] for dealer in best]
        return Line("Saving the three.", (("save_shortlist", {"name": "west-coast", "dealer_ids": dealer_ids}),))
    if moment.turn == 3:
        listed = "\n".join(
            f"- {one['name']}, {one['city']}: {one['cars_in_stock']} cars, {one['phone']}" for one in best
        )
        return Line(f"The three dealers in California with the most cars in stock:\n{listed}\n{_saved(moment.replies)}")
    return Line("[scripted] This model only follows its script, and that is over. Set a key to talk to a real one.")


def _best(history: tuple[Reply, ...]) -> list[dict[str, Any]]:
    details = [reply.data for reply in history if reply.tool == "dealer_details"]
    return sorted(details, key=lambda dealer: int(dealer["cars_in_stock"]), reverse=True)[:3]


def _saved(replies: tuple[Reply, ...]) -> str:
    return f"Saved in {replies[0].data['file']}." if replies else "Nothing was saved."
