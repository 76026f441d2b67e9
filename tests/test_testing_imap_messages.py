"""The IMAP server for tests: messages, and the search for them."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

import pytest

from saslwrap.testing import IMAPServer, Message
from saslwrap.testing.imap_fetch import header_of
from tests.imap_bed import (
    BARE,
    HELLO,
    IMAP,
    USERS,
    anyio_backend,
    logged_in,
    make_server,
    search,
    selected,
)

__all__ = ["anyio_backend"]


@IMAP
async def test_fetch_of_what_is_known_of_a_message() -> None:
    async with selected() as client:
        size = str(len(HELLO)).encode()
        fast = b'FLAGS (\\Flagged) INTERNALDATE "03-Feb-2024 12:00:05 +0000" RFC822.SIZE ' + size
        bob, to = b'(("Bob" NIL "bob" "example.com"))', b'(NIL NIL "alice" "example.com")'
        envelope = b" ".join(
            [
                b'ENVELOPE ("Sat, 3 Feb 2024 12:00:00 +0000" "=?utf-8?q?Gr=C3=BC=C3=9Fe?="',
                *(bob, bob, bob),
                b"(" + to + b'("Carol" NIL "carol" "example.com"))',
                b'NIL NIL NIL "<1@example.com>")',
            ]
        )
        assert await client.fetch("FETCH 1 FAST") == fast
        assert await client.fetch("FETCH 1 all") == fast + b" " + envelope
        assert await client.fetch("FETCH 1 (UID RFC822.SIZE)") == b"UID 1 RFC822.SIZE " + size
        assert await client.fetch("UID FETCH 1 RFC822.SIZE") == b"UID 1 RFC822.SIZE " + size


@IMAP
async def test_an_envelope_of_more_brackets_than_a_parser_bears() -> None:
    nested = b"From: " + b"(" * 5000 + b"\r\n\r\n"
    async with logged_in(IMAPServer({"INBOX": [nested]}, USERS)) as client:
        await client.ask("SELECT INBOX")
        envelope = await client.fetch("FETCH 1 ENVELOPE")
        assert envelope == b"ENVELOPE (" + b" ".join(10 * [b"NIL"]) + b")"


@IMAP
async def test_an_envelope_of_odd_fields() -> None:
    odd = b'From: "a \\"q\\" b" <x>\r\nSubject: gr\xc3\xbcn "x"\r\nTo: undisclosed:;\r\nCc:\r\n\r\n'
    async with logged_in(IMAPServer({"INBOX": [odd]}, USERS)) as client:
        await client.ask("SELECT INBOX")
        envelope = await client.fetch("FETCH 1 ENVELOPE")
        assert b' {9}\r\ngr\xc3\xbcn "x" ((' in envelope
        assert b'(({7}\r\na "q" b NIL "x" NIL))' in envelope
        assert envelope.endswith(b" NIL NIL NIL NIL NIL)")


@IMAP
@pytest.mark.parametrize(
    ("item", "octets"),
    [
        ("BODY.PEEK[]", HELLO),
        ("BODY.PEEK[HEADER]", header_of(HELLO)),
        ("BODY.PEEK[TEXT]", b"How are YOU?\r\n"),
        ("BODY.PEEK[]<5.3>", HELLO[5:8]),
        ("BODY.PEEK[TEXT]<8.100>", b"YOU?\r\n"),
        ("BODY.PEEK[]<9999.5>", b""),
        ("BODY.PEEK[HEADER.FIELDS (x-folded NONE)]", b"X-Folded: one\r\n two\r\n\r\n"),
        ('BODY.PEEK[HEADER.FIELDS ("x-folded")]', b"X-Folded: one\r\n two\r\n\r\n"),
        (
            "BODY.PEEK[HEADER.FIELDS.NOT (FROM TO DATE SUBJECT X-FOLDED)]",
            b"Message-ID: <1@example.com>\r\n\r\n",
        ),
        ("RFC822.HEADER", header_of(HELLO)),
    ],
)
async def test_fetch_of_parts(item: str, octets: bytes) -> None:
    server = make_server()
    async with selected(server) as client:
        answer = await client.fetch(f"FETCH 1 {item}")
        label, _, rest = answer.partition(b" {%d}\r\n" % len(octets))
        assert rest == octets
        plain = re.sub(r"<(\d+)\.\d+>", r"<\1>", item.replace(".PEEK", "").replace('"', ""))
        assert label == plain.encode()
    assert "\\Seen" not in server.messages("INBOX")[1].flags


@IMAP
@pytest.mark.parametrize(
    "item", ["BODY[]", "BODY[TEXT]<0.1>", "RFC822", "RFC822.TEXT", "(UID RFC822)"]
)
async def test_what_is_read_is_seen(item: str) -> None:
    server = make_server()
    async with selected(server) as client:
        assert (await client.fetch(f"FETCH 2 {item}")).endswith(b" FLAGS (\\Seen)")
        assert b"FLAGS" not in await client.fetch(f"FETCH 2 {item}")
        assert (await client.fetch(f"FETCH 3 (FLAGS {item.strip('()')})")).startswith(
            b"FLAGS (\\Seen)"
        )
    assert [uid for uid, m in server.messages("INBOX").items() if m.flags] == [1, 2, 3]


@IMAP
async def test_a_message_without_a_header() -> None:
    async with logged_in() as client:
        await client.ask("SELECT Entw&APw-rfe")
        assert await client.fetch("FETCH 1 BODY.PEEK[TEXT]") == b"BODY[TEXT] {0}\r\n"
        assert BARE in await client.fetch("FETCH 1 BODY.PEEK[HEADER]")


@IMAP
@pytest.mark.parametrize(
    "command",
    [
        "FETCH",
        "FETCH 1",
        "FETCH 1 ()",
        "FETCH 1 BODYSTRUCTURE",
        "FETCH 1 FLAGS[]",
        "FETCH 1 BODY[1]",
        "FETCH 1 BODY[HEADER",
        "FETCH 1 BODY[HEADER.FIELDS]",
        "FETCH 1 BODY[]<5>",
        "FETCH 1 BODY[]<0.0>",
        "FETCH 1 (UID",
        "FETCH 1 (UID  FLAGS)",
        "FETCH 1 UID x",
        "FETCH 4 UID",
        "FETCH 0 UID",
        "FETCH 1, UID",
        "FETCH a UID",
        "STORE 1 FLAGS",
        "STORE 1 FLOGS (\\Seen)",
        "STORE 1 FLAGS (\\Recent)",
        "STORE 1 FLAGS \\",
        "SEARCH",
        "SEARCH ()",
        "SEARCH XYZZY",
        "SEARCH XYZZY x",
        "SEARCH SUBJECT",
        "SEARCH SINCE yesterday",
        "SEARCH SINCE 31-Feb-2024",
        "SEARCH SINCE 1-Foo-2024",
        "SEARCH NOT",
        "SEARCH OR ALL",
        "SEARCH (ALL",
        "SEARCH LARGER x",
        "SEARCH 1:9",
        'SEARCH SUBJECT "x',
        "COPY 1",
        "APPEND INBOX text",
        "APPEND INBOX (\\Recent) {1+}\r\nx",
        'APPEND INBOX "yesterday" {1+}\r\nx',
        "SELECT",
        "SELECT INBOX x",
        "LIST INBOX",
        "CHECK now",
    ],
)
async def test_what_cannot_be_read_is_bad(command: str) -> None:
    server = make_server()
    before = server.messages("INBOX")
    async with selected(server) as client:
        assert (await client.ask(command)).last.startswith(b"BAD ")
        assert (await client.ask("CHECK")).ok
    assert server.messages("INBOX") == before


@IMAP
async def test_store() -> None:
    async with selected() as client:
        answer = await client.ask("STORE 1:2 +FLAGS (\\SEEN $Later)")
        assert answer.untagged == [
            b"1 FETCH (FLAGS ($Later \\Flagged \\Seen))",
            b"2 FETCH (FLAGS ($Later \\Seen))",
        ]
        assert (await client.ask("UID STORE 2 -FLAGS \\seen $LATER")).untagged == [
            b"2 FETCH (UID 2 FLAGS ())"
        ]
        assert (await client.ask("STORE 1 FLAGS.SILENT ()")).untagged == []
        assert await client.fetch("FETCH 1 FLAGS") == b"FLAGS ()"
        assert (await client.ask("STORE 1 flags $later")).untagged == [b"1 FETCH (FLAGS ($Later))"]
        assert b"$Later" in (await client.ask("SELECT INBOX")).untagged[0]


@IMAP
async def test_uids_that_are_not_there_do_not_matter() -> None:
    async with selected() as client:
        assert await client.ask("UID FETCH 50:60,7 FLAGS") == ([], b"OK FETCH completed")
        assert (await client.ask("UID FETCH 50:* UID")).untagged == [b"3 FETCH (UID 3)"]


@IMAP
async def test_copy_and_move() -> None:
    server = make_server()
    async with selected(server) as client:
        answer = await client.ask("COPY 3,1 Archive/2024")
        assert answer == ([], b"OK [COPYUID 3 1,3 1,2] COPY completed")
        answer = await client.ask("UID MOVE 2 Archive/2024")
        assert answer.untagged == [b"OK [COPYUID 3 2 3] moved", b"2 EXPUNGE"]
        assert answer.last == b"OK MOVE completed"
        assert (await client.ask("UID MOVE 99 Archive")) == ([], b"OK MOVE completed")
        assert (await client.ask("COPY 1 none")).last.startswith(b"NO [TRYCREATE] ")
        assert (await client.ask("MOVE 1 none")).last.startswith(b"NO [TRYCREATE] ")
    inbox, archive = server.messages("INBOX"), server.messages("Archive/2024")
    assert list(inbox) == [1, 3]
    assert archive[1] == inbox[1]
    assert archive[1].content == HELLO


@IMAP
async def test_expunge() -> None:
    server = make_server()
    async with selected(server) as client:
        await client.ask("STORE 1:3 +FLAGS.SILENT (\\Deleted)")
        assert (await client.ask("UID EXPUNGE 2:9")).untagged == [b"3 EXPUNGE", b"2 EXPUNGE"]
        assert (await client.ask("EXPUNGE")).untagged == [b"1 EXPUNGE"]
        assert (await client.ask("EXPUNGE")).untagged == []
        assert (await client.ask("FETCH 1 UID")).last == b"BAD there are 0 messages"
        assert await search(client, "ALL") == []


@IMAP
async def test_append() -> None:
    server = make_server()
    async with selected(server) as client:
        answer = await client.append(b"x", 'INBOX (\\Draft) " 1-Mar-2023 01:02:03 -0130"')
        assert answer == ([b"4 EXISTS"], b"OK [APPENDUID 1 4] APPEND completed")
        assert (await client.append(b"x", "none")).last.startswith(b"NO [TRYCREATE] ")
        moment = datetime(2023, 3, 1, 1, 2, 3, tzinfo=timezone(-timedelta(minutes=90)))
        assert server.messages("INBOX")[4] == Message(b"x", {"\\Draft"}, moment)
        assert b'"01-Mar-2023 01:02:03 -0130"' in await client.fetch("FETCH 4 INTERNALDATE")
        assert (await client.ask(b"APPEND INBOX {5+}\r\n\r\n\r\nx")).ok
        assert server.messages("INBOX")[5].content == b"\r\n\r\nx"


@IMAP
@pytest.mark.parametrize(
    ("keys", "found"),
    [
        ("ALL", [1, 2, 3]),
        ("OLD", [1, 2, 3]),
        ("NEW", []),
        ("RECENT", []),
        ("flagged", [1]),
        ("UNFLAGGED UNSEEN", [2, 3]),
        ("2:*", [2, 3]),
        ("*", [3]),
        ("UID 1,3,99", [1, 3]),
        ("NOT 2", [1, 3]),
        ("OR 1 SUBJECT third", [1, 3]),
        ("(2 (UNSEEN)) ALL", [2]),
        ('SUBJECT "GRÜßE"', [1]),
        ('SUBJECT ""', [1, 2, 3]),
        (b"SUBJECT {5+}\r\nTHIRD UID 3", [3]),
        ("CHARSET UTF-8 TO carol@", [1]),
        ("FROM bob CC x", []),
        ("BODY 'no", []),
        ("BODY you", [1]),
        ("BODY Subject", []),
        ("TEXT Subject", [1, 2, 3]),
        ('HEADER X-Folded "one two"', [1]),
        ('HEADER Message-ID ""', [1]),
        ("LARGER 100", [1]),
        ("SMALLER 100", [2, 3]),
        ("KEYWORD $x", []),
        ("UNKEYWORD $x", [1, 2, 3]),
        ("ON 3-Feb-2024", [1]),
        ('BEFORE "4-feb-2024"', [1]),
        ("BEFORE 3-Feb-2024", []),
        ("SINCE 4-Feb-2024", [2, 3]),
        ("SENTON 3-Feb-2024", [1]),
        ("SENTSINCE 1-Jan-2000", [1]),
        ("SENTBEFORE 3-Feb-2024", []),
    ],
    ids=repr,
)
async def test_search(keys: str | bytes, found: list[int]) -> None:
    async with selected() as client:
        assert await search(client, keys) == found
        octets = keys.encode() if isinstance(keys, str) else keys
        by_uid = await client.ask(b"UID SEARCH " + octets)
        assert by_uid.untagged == [b" ".join([b"SEARCH", *(str(n).encode() for n in found)])]


@IMAP
async def test_a_charset_that_is_unknown() -> None:
    async with selected() as client:
        answer = await client.ask("SEARCH CHARSET KOI8-R ALL")
        assert answer.last.startswith(b"NO [BADCHARSET (US-ASCII UTF-8)] ")


@IMAP
@pytest.mark.parametrize("deep", ["NOT " * 5000 + "ALL", "(" * 5000 + "ALL" + ")" * 5000])
async def test_a_search_that_is_nested_deep(deep: str) -> None:
    async with selected() as client:
        assert b"nested over 50 deep" in (await client.ask(f"SEARCH {deep}")).last
        assert await search(client, "NOT " * 48 + "2") == [2]


@IMAP
async def test_headers_that_lie_about_their_encoding() -> None:
    odd = [b"Subject: =?nonsense?q?x?=\r\n\r\n", b"Subject: =?utf-8?b?!?=\r\nDate: never\r\n\r\n"]
    async with selected(IMAPServer({"INBOX": odd}, USERS)) as client:
        assert await search(client, "SUBJECT nonsense") == [1]
        assert await search(client, "SENTSINCE 1-Jan-1990") == []
