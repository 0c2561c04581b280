"""What waits to be sent to other processes, and what is given up where too much does."""

from __future__ import annotations

from conductor_ai.storage.redis_outbox import MAX_CHARS, MAX_ITEMS, MAX_MESSAGE_CHARS, Outbox


def test_items_go_out_once_in_the_order_of_their_session() -> None:
    outbox = Outbox()
    for n in range(3):
        outbox.put("s1", f'"a{n}"', lasting=True)
        outbox.put("s2", f'"b{n}"', lasting=False)
    assert outbox
    assert dict(outbox.messages()) == {"s1": '"a0"\n"a1"\n"a2"', "s2": '"b0"\n"b1"\n"b2"'}
    assert not outbox and outbox.messages() == []


def test_a_long_message_is_cut_between_items() -> None:
    outbox = Outbox()
    sent = [str(n) * (MAX_MESSAGE_CHARS // 3) for n in range(1, 8)] + ["x" * (2 * MAX_MESSAGE_CHARS), "y"]
    for text in sent:
        outbox.put("s1", text, lasting=True)
    texts = [text for _, text in outbox.messages()]
    assert "\n".join(texts).split("\n") == sent
    assert all(len(text) <= MAX_MESSAGE_CHARS + 3 or "\n" not in text for text in texts)


def test_where_too_many_wait_live_items_go_before_lasting_ones() -> None:
    outbox = Outbox()
    for n in range(MAX_ITEMS - 1):
        outbox.put("s1", str(n), lasting=n % 2 == 0)
    outbox.put("s1", "first", lasting=True)
    outbox.put("s1", "second", lasting=True)
    [(_, text)] = outbox.messages()
    assert text.split("\n") == [str(n) for n in range(0, MAX_ITEMS - 1, 2)] + ["first", "second"]


def test_where_lasting_items_alone_are_too_many_the_oldest_go() -> None:
    outbox = Outbox()
    for n in range(MAX_ITEMS + 3):
        outbox.put("s1", str(n), lasting=True)
    outbox.put("s1", "live", lasting=False)
    [(_, text)] = outbox.messages()
    assert text.split("\n") == [str(n) for n in range(3, MAX_ITEMS + 3)]


def test_what_waits_is_bounded_by_its_size_too() -> None:
    outbox = Outbox()
    for n in range(12):
        outbox.put(f"s{n}", "x" * (MAX_CHARS // 10), lasting=True)
    assert [session_id for session_id, _ in outbox.messages()] == [f"s{n}" for n in range(2, 12)]
