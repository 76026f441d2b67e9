"""The IMAP server for tests: mailboxes, and several clients at one."""

from __future__ import annotations

import random
import re
from contextlib import suppress
from datetime import date, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saslwrap import UsageError
from saslwrap.testing import IMAPServer, Message
from saslwrap.testing.imap_commands import Command, CommandError
from saslwrap.testing.imap_fetch import field_of, header_of
from saslwrap.testing.imap_mailboxes import Mailbox, Mailboxes, encode_name
from saslwrap.testing.imap_session import Session
from saslwrap.testing.imap_view import View
from tests.imap_bed import (
    HELLO,
    IMAP,
    USERS,
    anyio_backend,
    command,
    connected,
    logged_in,
    make_server,
    search,
    selected,
)

__all__ = ["anyio_backend"]


@IMAP
async def test_list() -> None:
    names = [b"INBOX", b"Archive", b"Archive/2024", b"Entw&APw-rfe"]
    async with logged_in() as client:
        for command in ("LIST", "LSUB"):
            answer = await client.ask(f'{command} "" *')
            assert answer.untagged == [b'%b () "/" "%b"' % (command.encode(), n) for n in names]
        assert (await client.ask('LIST "" ""')).untagged == [b'LIST (\\Noselect) "/" ""']
        assert len((await client.ask('LIST "" "%"')).untagged) == 3
        assert (await client.ask("LIST Archive/ %")).untagged == [b'LIST () "/" "Archive/2024"']
        assert (await client.ask('LIST "" inbox')).untagged == [b'LIST () "/" "INBOX"']
        assert (await client.ask('LIST "" nothing')).ok


@IMAP
async def test_create_and_delete() -> None:
    async with logged_in() as client:
        assert (await client.ask("CREATE a/b/c/")).ok
        listed = (await client.ask('LIST "" a*')).untagged
        assert [line.split()[-1] for line in listed] == [b'"a"', b'"a/b"', b'"a/b/c"']
        assert (await client.ask("CREATE a/b")).last.startswith(b"NO [ALREADYEXISTS] ")
        assert (await client.ask("DELETE a/b")).last.startswith(b"NO [CANNOT] ")
        assert (await client.ask("DELETE a/b/c")).ok
        assert (await client.ask("DELETE a/b")).ok
        assert (await client.ask("DELETE a/b")).last.startswith(b"NO [NONEXISTENT] ")
        assert (await client.ask("DELETE inbox")).last.startswith(b"NO [CANNOT] ")


@IMAP
async def test_one_command_makes_no_more_than_it_may() -> None:
    async with logged_in() as client:
        assert (await client.ask(f"CREATE {'b' * 256}")).last.startswith(b"NO [LIMIT] ")
        assert (await client.ask(f'LIST "" {"%" * 256}')).untagged == []
        answers = [await client.ask("CREATE " + "/".join(letter * 128)) for letter in "abcdefghi"]
        assert [answer.ok for answer in answers] == 8 * [True] + [False]
        assert answers[-1].last.startswith(b"NO [LIMIT] ")
        assert len((await client.ask(f'LIST "" {"*a%" * 80}')).untagged) < 1024


@IMAP
@pytest.mark.parametrize("name", ['""', '"a//b"', '"/a"', '"a*"', '"%"'])
async def test_names_that_cannot_be(name: str) -> None:
    async with logged_in() as client:
        assert (await client.ask(f"CREATE {name}")).last.startswith(b"NO [CANNOT] ")


@IMAP
async def test_a_name_that_is_not_ascii() -> None:
    async with logged_in() as client:
        answer = await client.ask('CREATE "Entwürfe"')
        assert answer.last == b"BAD names beyond ASCII are written in modified UTF-7"


@IMAP
async def test_a_mailbox_that_is_made_again_has_another_validity() -> None:
    async with logged_in() as client:
        await client.ask("CREATE x")
        first = (await client.ask("STATUS x (UIDVALIDITY)")).untagged
        await client.ask("DELETE x")
        await client.ask("CREATE x")
        assert (await client.ask("STATUS x (UIDVALIDITY)")).untagged != first


@IMAP
async def test_status() -> None:
    async with logged_in() as client:
        answer = await client.ask("STATUS inbox (messages recent uidnext uidvalidity unseen)")
        assert answer.untagged == [
            b'STATUS "inbox" (MESSAGES 3 RECENT 0 UIDNEXT 4 UIDVALIDITY 1 UNSEEN 3)'
        ]
        assert (await client.ask("STATUS INBOX (SIZE)")).last.startswith(b"BAD STATUS knows ")
        assert (await client.ask("STATUS INBOX ()")).last.startswith(b"BAD STATUS knows ")
        assert (await client.ask("STATUS no (UNSEEN)")).last.startswith(b"NO [NONEXISTENT]")


@IMAP
async def test_namespace_and_subscriptions() -> None:
    async with logged_in() as client:
        assert (await client.ask("NAMESPACE")).untagged == [b'NAMESPACE (("" "/")) NIL NIL']
        assert (await client.ask("SUBSCRIBE INBOX")).ok
        assert (await client.ask("SUBSCRIBE none")).last.startswith(b"NO [NONEXISTENT]")
        assert (await client.ask("UNSUBSCRIBE INBOX")).last.startswith(b"NO [CANNOT]")


@IMAP
async def test_select() -> None:
    flags = b"\\Answered \\Deleted \\Draft \\Flagged \\Seen"
    async with logged_in() as client:
        answer = await client.ask('SELECT "INBOX"')
        assert answer.untagged == [
            b"FLAGS (%b)" % flags,
            b"3 EXISTS",
            b"0 RECENT",
            b"OK [UNSEEN 1] the first that was not read",
            b"OK [UIDVALIDITY 1] of this mailbox",
            b"OK [UIDNEXT 4] of the next message",
            b"OK [PERMANENTFLAGS (%b \\*)] flags that last" % flags,
        ]
        assert answer.last == b"OK [READ-WRITE] SELECT completed"
        answer = await client.ask("EXAMINE Archive/2024")
        assert b"0 EXISTS" in answer.untagged
        assert b"OK [PERMANENTFLAGS ()] flags that last" in answer.untagged
        assert not any(b"UNSEEN" in line for line in answer.untagged)
        assert answer.last == b"OK [READ-ONLY] EXAMINE completed"


@IMAP
async def test_a_select_that_fails_leaves_nothing_selected() -> None:
    async with selected() as client:
        assert (await client.ask("SELECT none")).last.startswith(b"NO [NONEXISTENT]")
        assert (await client.ask("FETCH 1 UID")).last == b"BAD select a mailbox first"
        assert (await client.ask("CLOSE")).last == b"BAD select a mailbox first"


@IMAP
async def test_close_and_unselect() -> None:
    server = make_server()
    async with selected(server) as client:
        await client.ask("STORE 1,3 +FLAGS.SILENT (\\Deleted)")
        assert (await client.ask("UNSELECT")).ok
        assert len(server.messages("INBOX")) == 3
        await client.ask("EXAMINE INBOX")
        assert (await client.ask("CLOSE")).ok
        assert len(server.messages("INBOX")) == 3
        await client.ask("SELECT INBOX")
        assert await client.ask("CLOSE") == ([], b"OK CLOSE completed")
        assert list(server.messages("INBOX")) == [2]


@IMAP
@pytest.mark.parametrize(
    "command", ["STORE 1 FLAGS (\\Seen)", "EXPUNGE", "MOVE 1 Archive", "UID EXPUNGE 1"]
)
async def test_what_is_examined_is_not_changed(command: str) -> None:
    server = make_server()
    before = server.messages("INBOX")
    async with logged_in(server) as client:
        await client.ask("EXAMINE INBOX")
        assert (await client.ask(command)).last == b"NO the mailbox was opened to be read"
        assert b"FLAGS" not in await client.fetch("FETCH 2 BODY[TEXT]")
    assert server.messages("INBOX") == before


@IMAP
async def test_a_mailbox_that_is_deleted_under_a_client() -> None:
    server = make_server()
    async with logged_in(server) as client, logged_in(server) as other:
        await client.ask("SELECT Entw&APw-rfe")
        assert (await other.ask("DELETE Entw&APw-rfe")).ok
        assert (await client.ask("NOOP")).untagged == [b"1 EXPUNGE"]


@IMAP
async def test_numbers_stay_while_answers_go_by_them() -> None:
    server = make_server()
    async with selected(server) as client:
        server.expunge("INBOX", 1)
        server.deliver("INBOX", b"x")
        assert (await client.ask("FETCH 2 UID")).untagged == [b"2 FETCH (UID 2)", b"4 EXISTS"]
        assert (await client.ask("FETCH 1 UID")).untagged == []
        assert await search(client, "ALL") == [2, 3, 4]
        assert (await client.ask("STORE 1 FLAGS (\\Seen)")).untagged == []
        assert (await client.ask("UID FETCH 1 UID")).untagged == [b"1 EXPUNGE"]
        assert (await client.ask("FETCH 1:* UID")).untagged[0] == b"1 FETCH (UID 2)"


@IMAP
async def test_flags_that_another_client_sets_are_told() -> None:
    server = make_server()
    async with selected(server) as client, selected(server) as other:
        await other.ask("STORE 2 FLAGS (\\Answered)")
        assert (await client.ask("NOOP")).untagged == [b"2 FETCH (UID 2 FLAGS (\\Answered))"]
        assert (await other.ask("NOOP")).untagged == []


@IMAP
async def test_an_answer_under_way_is_of_its_time() -> None:
    content = b"Subject: x\r\n\r\n" + b"y" * 200_000
    server = IMAPServer({"INBOX": [content, content]}, USERS)
    async with connected(server, 1000) as client:
        await client.log_in()
        await client.ask("SELECT INBOX")
        await client.stream.send(b"a FETCH 1:2 BODY.PEEK[]\r\n")
        await client.stream.receive(10)
        server.expunge("INBOX", 1, 2)
        rest = b""
        while not rest.endswith(b"a OK FETCH completed\r\n"):
            rest += await client.stream.receive()
        assert rest.count(content) == 2


def follow(known: list[int], news: list[bytes], uids: list[int]) -> None:
    """Do to a client's list of UIDs what the server tells; new ones are looked up."""
    for line in news:
        _, number, what = line.split()
        if what == b"EXPUNGE":
            del known[int(number) - 1]
        else:
            known += uids[len(uids) - (int(number) - len(known)) :]


@pytest.mark.parametrize("seed", range(20))
def test_a_client_that_follows_the_news_knows_the_mailbox(seed: int) -> None:
    source, box = random.Random(seed), Mailbox(1)
    view, known = View(box, read_only=False), list[int]()
    for _ in range(200):
        match source.randrange(4):
            case 0 | 1:
                box.add(Message(b"x"))
            case 2 if box.messages:
                box.remove(
                    source.sample(list(box.messages), source.randint(1, 2) % len(box.messages))
                )
            case _:
                expunged = source.random() < 0.5
                follow(known, view.news(expunged=expunged), list(box.messages))
                if expunged:
                    assert known == list(box.messages)
                assert [message.uid for message in view.all()] == [
                    uid for uid in known if uid in box.messages
                ]


@given(st.lists(st.tuples(*[st.integers(1, 12) | st.none()] * 2), min_size=1), st.integers(0, 9))
def test_sets(pairs: list[tuple[int | None, int | None]], size: int) -> None:
    box = Mailbox(1)
    for _ in range(size):
        box.add(Message(b"x"))
    box.remove([2, 5])
    view, uids = View(box, read_only=False), list(box.messages)
    highest = max(uids, default=0)
    known = [sorted((first or highest, last or highest)) for first, last in pairs]
    expected = [uid for uid in uids if any(first <= uid <= last for first, last in known)]
    assert [message.uid for message in view.select(pairs, by_uid=True)] == expected
    if all(last <= len(uids) for _, last in known):
        chosen = view.select(pairs, by_uid=False)
        top = len(uids)
        ranges = [sorted((first or top, last or top)) for first, last in pairs]
        assert [message.number for message in chosen] == [
            n for n in range(1, top + 1) if any(first <= n <= last for first, last in ranges)
        ]


NAMES = ["FETCH", "STORE", "SEARCH", "COPY", "MOVE", "EXPUNGE", "APPEND", "SELECT", "STATUS"]

NAMES += ["LIST", "CREATE", "DELETE", "CLOSE", "UID FETCH", "UID STORE", "UID SEARCH", "UID COPY"]

TOKENS = ["1", "1:*", "*", "0", "99999999999", "INBOX", "a/b", '""', '"x y"', "(", ")", "[", "]"]

TOKENS += ["BODY[", "HEADER.FIELDS", "<0.1>", "FLAGS", "+FLAGS", "\\Seen", "\\", "$x", "UID", "NOT"]

TOKENS += ["OR", "SINCE", "1-Jan-2024", "SUBJECT", "CHARSET", "ALL", " ", " ", " ", " ", "{0}", "é"]


@given(st.sampled_from(NAMES), st.lists(st.sampled_from(TOKENS), max_size=9).map("".join))
@settings(max_examples=500)
def test_whatever_a_command_says_it_is_answered_or_refused(name: str, rest: str) -> None:
    session = Session(Mailboxes({"INBOX": [HELLO], "a/b": []}))
    list(session.answer(Command(b"a SELECT INBOX\r\n")))
    line = Command(f"a {name} {rest}\r\n".encode())
    if line.announced:
        line.go_on(b"", b"\r\n")
    with suppress(CommandError):
        answer = b"".join(map(bytes, session.answer(line)))
        assert answer.splitlines()[-1].startswith(b"a OK ")


names = st.text("ab/", min_size=1, max_size=8).filter(lambda name: all(name.split("/")))


@given(names, st.text("ab/*%", max_size=8))
def test_patterns(name: str, pattern: str) -> None:
    boxes = Mailboxes({name: []})
    as_regex = pattern.replace("*", ".*").replace("%", "[^/]*")
    assert (name in boxes.matching(pattern)) is bool(re.fullmatch(as_regex, name))


def test_a_pattern_full_of_wildcards_takes_no_time() -> None:
    boxes = Mailboxes({"a" * 200: []})
    assert boxes.matching("*a" * 100 + "b") == []
    assert boxes.matching("%*a" * 60) == ["a" * 200]


@pytest.mark.parametrize(
    ("name", "wire"),
    [
        ("Entwürfe", "Entw&APw-rfe"),
        ("台北/x", "&U,BTFw-/x"),
        ("Tom & Jerry", "Tom &- Jerry"),
        ("~peter/mail", "~peter/mail"),
        ("😀", "&2D3eAA-"),
    ],
)
def test_names_in_modified_utf_7(name: str, wire: str) -> None:
    """`台北` is RFC 3501's own example (section 5.1.3), `&U,BTFw-`."""
    assert encode_name(name) == wire


@pytest.mark.parametrize(
    ("mailboxes", "says"),
    [
        ({"INBOX": b"x"}, "takes a list"),
        ({"INBOX": "x"}, "takes a list"),
        ({"INBOX": None}, "takes a list"),
        ({5: []}, "a mailbox's name is a str, not int"),
        (["INBOX"], "mailboxes is lists of messages by name, not list"),
        ({"INBOX": ["x"]}, "is octets"),
        ({"INBOX": [Message("x")]}, "is octets"),  # type: ignore[arg-type]
        ({"INBOX": [Message(b"x", "\\Seen")]}, r"flags='\\\\Seen' is no set"),
        ({"INBOX": [Message(b"x", {"\\Recent"})]}, "is no set of flags"),
        ({"INBOX": [Message(b"x", {"two words"})]}, "is no set of flags"),
        ({"INBOX": [Message(b"x", received=datetime(2024, 1, 1))]}, "no time zone"),
        ({"INBOX": [Message(b"x", None)]}, "flags=None is no set"),  # type: ignore[arg-type]
        ({"INBOX": [Message(b"x", [5])]}, r"flags=\[5\] is no set"),  # type: ignore[list-item]
        ({"INBOX": [Message(b"x", iter("x"))]}, "is no set"),  # type: ignore[arg-type]
        ({"INBOX": [Message(b"x", received=1)]}, "received is datetime"),  # type: ignore[arg-type]
        ({"\ud800": []}, "a mailbox's name has lone surrogates"),
        ({"": []}, "no name of a mailbox"),
        ({"a//b": []}, "no name of a mailbox"),
        ({"a*": []}, "no name of a mailbox"),
    ],
)
def test_mailboxes_that_are_wrong(mailboxes: Any, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        IMAPServer(mailboxes)


def test_contents_stay_out_of_a_repr() -> None:
    assert "secret" not in repr(Message(b"secret"))


def test_there_is_an_inbox_whatever_is_given() -> None:
    assert IMAPServer({"inbox": [b"x"]}).messages("Inbox")[1].content == b"x"
    assert IMAPServer({}).messages("INBOX") == {}


def test_arguments() -> None:
    line = Command(b'a X "q \\"\\\\" atom] {3+}\r\n')
    assert line.announced == (3, False)
    line.go_on(b"\r\n\0", b" 1:*,7 31-Dec-1999\r\n")
    assert line.announced is None
    line.space()
    assert line.string() == b'q "\\'
    line.space()
    assert line.string() == b"atom]"
    line.space()
    assert line.string() == b"\r\n\0"
    line.space()
    assert line.sequence_set() == [(1, None), (7, 7)]
    line.space()
    assert line.date() == date(1999, 12, 31)
    line.end()


@pytest.mark.parametrize("text", ['"a', '"a\\x"', "(", "\\", '"\\"'])
def test_strings_that_are_none(text: str) -> None:
    with pytest.raises(CommandError):
        command(text).string()


@pytest.mark.parametrize("text", ['"1-Jan-2024 0:0:0 +0000"', '" 1-Jan-2024 25:00:00 +0000"'])
def test_moments_that_are_none(text: str) -> None:
    with pytest.raises(CommandError, match=r"moment|no such date"):
        command(text).date_time()


def test_the_second_line_of_a_command_is_held_to_the_same() -> None:
    line = Command(b"a X {1+}\r\n")
    with pytest.raises(CommandError, match="CRLF"):
        line.go_on(b"x", b" \0\r\n")


@pytest.mark.parametrize(
    ("content", "header"),
    [
        (b"A: b\r\n\r\nc", b"A: b\r\n\r\n"),
        (b"A: b\n\nc", b"A: b\n\n"),
        (b"\r\nc", b"\r\n"),
        (b"A: b\r\n", b"A: b\r\n"),
        (b"", b""),
    ],
)
def test_headers(content: bytes, header: bytes) -> None:
    assert header_of(content) == header


def test_fields() -> None:
    header = b"A : one\r\n\ttwo\r\nBB: three\r\na: four\r\n\r\n"
    assert field_of(header, b"a") == b"one two"
    assert field_of(header, b"bb") == b"three"
    assert field_of(header, b"b") is None
