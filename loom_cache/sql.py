"""What a SQL statement does, read from its text alone (pure; no connection, no registry).

The reading errs on one side only: a statement may be taken for a write, or for a write to more
than it changes, never the other way round. Literals, quoted identifiers and comments cannot
pass for keywords.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from typing import Literal

from loom_cache import lexer
from loom_cache.clauses import Clauses
from loom_cache.dml import Changed, Inserted, read_change, read_insert
from loom_cache.lexer import Token
from loom_cache.selects import Select, read_select

Control = Literal["begin", "commit", "rollback", "savepoint", "rollback to", "release", "fold"]
Reach = Literal["none", "insert", "rows", "tables", "everything"]

_VERBS = frozenset(
    "INSERT UPDATE DELETE MERGE TRUNCATE REPLACE CALL DO EXECUTE EXEC COPY LOAD REFRESH INTO "
    "CREATE ALTER DROP RENAME PREPARE HANDLER IMPORT".split()
)
_OF_QUERIES = frozenset("INSERT UPDATE DELETE MERGE REPLACE INTO".split())
"""Those that can stand inside a query (in a CTE, say); the others are columns' names there."""
_QUERY = frozenset("SELECT WITH VALUES".split())
_SEPARATES = frozenset("postgresql sqlite mysql".split())
"""Databases that want a semicolon between statements: a query cannot be followed by EXEC there."""
_DDL = frozenset("CREATE ALTER DROP RENAME".split())
_ROUTINES = frozenset("TRIGGER FUNCTION PROCEDURE".split())
_OPAQUE = frozenset("CALL DO EXECUTE EXEC PREPARE HANDLER".split())
_VOLATILE = frozenset(
    "CURRENT_TIMESTAMP CURRENT_DATE CURRENT_TIME LOCALTIME LOCALTIMESTAMP SYSDATE SYSTIMESTAMP "
    "UTC_TIMESTAMP UTC_DATE UTC_TIME CURRENT_USER SESSION_USER USER TABLESAMPLE".split()
)
"""Words that make an answer differ from one call to the next."""
_VOLATILE_FUNCTIONS = frozenset(
    "RANDOM RAND NOW STATEMENT_TIMESTAMP CLOCK_TIMESTAMP TRANSACTION_TIMESTAMP TIMEOFDAY AGE "
    "GETDATE CURDATE CURTIME UNIX_TIMESTAMP RANDOMBLOB GEN_RANDOM_UUID UUID UUIDV4 UUIDV7 "
    "UUID_GENERATE_V1 UUID_GENERATE_V4 NEXTVAL CURRVAL LASTVAL PG_BACKEND_PID TXID_CURRENT "
    "PG_CURRENT_XACT_ID PG_CURRENT_WAL_LSN INET_CLIENT_ADDR INET_CLIENT_PORT "
    "CONNECTION_ID LAST_INSERT_ROWID CHANGES TOTAL_CHANGES CURRENT_SETTING".split()
)
"""The same before a parenthesis; elsewhere a column or a type may be called so."""
_NOW_WITHOUT_ARGUMENTS = frozenset("DATE TIME DATETIME JULIANDAY UNIXEPOCH".split())
_MOMENTS = frozenset(("now", "today", "tomorrow", "yesterday"))
"""Literals that a database reads as a time of its own."""
_LONGEST_REMEMBERED = 4096
"""Characters; longer statements are read each time, not kept in memory."""
_PARAMETERS = re.compile(r"%s(?:, ?%s)+")
_ROWS_OF_PARAMETERS = re.compile(r"\(%s\)(?:, ?\(%s\))+")


@dataclass(frozen=True, slots=True)
class Statement:
    """What one text of SQL does.

    `reach` says how much a write may change: nothing, rows added to `target`, the rows of
    `target` that `changed` describes, anything in the tables of `names`, or anything at all.
    """

    names: frozenset[str]
    """Every identifier in it, lower-case: each table it touches is among them."""
    reach: Reach = "none"
    target: str | None = None
    inserted: Inserted | None = None
    changed: Changed | None = None
    select: Select | None = None
    """How it reads, if it is a SELECT that could be understood."""
    placeholders: int = 0
    """How many there are; others than `%s` count as well."""
    deletes: bool = False
    cascades: bool = False
    ends_caching: bool = False
    """It writes, locks or sets something: what this transaction reads is its own from here on."""
    defines: bool = False
    returns: bool = False
    """It hands back rows (`RETURNING`): some databases commit it only when they are fetched."""
    sets: bool = False
    volatile: str | None = None
    """The function (in upper case) that makes its answer differ from one call to the next."""
    control: Control | None = None
    savepoint: str | None = None
    sources: frozenset[str] = frozenset()
    """Names that stand where a table's does."""
    mentions: tuple[str, ...] = ()
    """Identifiers that are not qualifiers (not followed by a dot), in order, repeats included."""

    @property
    def writes(self) -> bool:
        return self.reach != "none"


UNREADABLE = Statement(names=frozenset(), reach="everything", ends_caching=True, deletes=True)


def read(sql: str, *, vendor: str = "") -> Statement:
    """Read one text of SQL as `connection.vendor` would; placeholders are Django's `%s`."""
    if len(sql) > _LONGEST_REMEMBERED:
        sql = _shortened(sql)
    if len(sql) > _LONGEST_REMEMBERED:
        return _read(sql, vendor)
    return _remembered(sql, vendor)


def _shortened(sql: str) -> str:
    """With lists of parameters cut to one (a bulk insert, `IN (...)`), where how many there are
    makes no difference, or shows where the parameters are counted."""
    if sql.lstrip()[:6].upper() not in ("INSERT", "SELECT"):
        return sql
    return _ROWS_OF_PARAMETERS.sub("(%s)", _PARAMETERS.sub("%s", sql))


def _read(sql: str, vendor: str) -> Statement:
    tokens = lexer.tokens(sql, vendor)
    if tokens is None:
        return UNREADABLE
    pieces = [piece for piece in _pieces(tokens) if piece]
    if not pieces:
        return Statement(names=frozenset())
    if len(pieces) > 1:
        return _several([_one(piece, vendor) for piece in _without_ends(pieces)])
    found = _one(pieces[0], vendor)
    if lexer.hides_placeholders(sql, tokens):  # which parameter is which value?
        reach = "tables" if found.reach == "rows" else found.reach
        return replace(found, reach=reach, inserted=None, changed=None, select=None)
    return found


_remembered = lru_cache(maxsize=4096)(_read)


def _pieces(tokens: list[Token]) -> Iterator[list[Token]]:
    piece: list[Token] = []
    for token in tokens:
        if token == ("mark", ";"):
            yield piece
            piece = []
        else:
            piece.append(token)
    yield piece


def _without_ends(pieces: list[list[Token]]) -> list[list[Token]]:
    """Without the END of a routine's body, which is no COMMIT."""
    defines = any({token.text for token in piece} & _ROUTINES for piece in pieces)
    if not defines or any(piece[0].text in ("BEGIN", "START") for piece in pieces):
        return pieces
    return [piece for piece in pieces if piece[0] != ("word", "END")]


def _several(parts: list[Statement]) -> Statement:
    """Several statements in one text: their tables together, never single rows."""
    writes = any(part.writes for part in parts)
    everything = any(part.reach == "everything" for part in parts)
    controls = [part.control for part in parts if part.control]
    return Statement(
        names=frozenset().union(*(part.names for part in parts)),
        reach="everything" if everything else "tables" if writes else "none",
        deletes=any(part.deletes for part in parts),
        cascades=any(part.cascades for part in parts),
        ends_caching=any(part.ends_caching for part in parts),
        defines=any(part.defines for part in parts),
        returns=any(part.returns for part in parts),
        sets=any(part.sets for part in parts),
        volatile=next((part.volatile for part in parts if part.volatile), None),
        control=_control_of_several(controls),
        sources=frozenset().union(*(part.sources for part in parts)),
        mentions=tuple(name for part in parts for name in part.mentions),
    )


def _control_of_several(controls: list[Control]) -> Control | None:
    """A commit among them publishes; savepoints that come and go in one text are not followed."""
    if "commit" in controls or "rollback" in controls:
        return "commit"
    if "begin" in controls:
        return "begin"
    return "fold" if controls else None


def _one(tokens: list[Token], vendor: str) -> Statement:
    words = [token.text if token.kind == "word" else "" for token in tokens]
    control, savepoint = _control(words, tokens)
    verbs = _verbs(words, tokens, vendor)
    sets = words[0] in ("SET", "RESET", "DISCARD") or "SET_CONFIG" in words
    if control == "begin" and "ISOLATION" in words:
        sets = True
    clauses = Clauses(tokens)
    reach, target = _reach(words, tokens, verbs)
    changed = inserted = None
    if reach == "rows":
        changed = _changed(target, clauses) if vendor != "mysql" else None
        reach = "tables" if changed is None else "rows"
    elif reach == "insert":
        inserted = read_insert(clauses)
    return Statement(
        names=frozenset(_names(tokens, vendor)),
        reach=reach,
        target=target,
        inserted=inserted,
        changed=changed,
        select=None if verbs or reach != "none" else read_select(clauses),
        placeholders=clauses.placeholders,
        sources=frozenset(clauses.sources()),
        deletes=bool(verbs & {"DELETE", "TRUNCATE", "REPLACE", "MERGE", "DROP"})
        or reach == "everything",
        cascades="CASCADE" in words and "TRUNCATE" in verbs,
        ends_caching=bool(verbs) or sets or _locks(words),
        defines=bool(verbs & _DDL),
        returns="RETURNING" in words,
        sets=sets,
        volatile=_volatile(tokens),
        control=control,
        savepoint=savepoint,
        mentions=tuple(_mentions(tokens, vendor)),
    )


def _names(tokens: list[Token], vendor: str) -> Iterator[str]:
    for kind, text in tokens:
        # MySQL's names may begin with a digit.
        if kind in ("word", "quoted", "number"):
            yield text.lower()
        elif kind == "string" and vendor == "sqlite":  # it may name a table, too
            yield text.strip("'").lower()


def _mentions(tokens: list[Token], vendor: str) -> Iterator[str]:
    for token, after in zip(tokens, [*tokens[1:], Token("mark", "")], strict=True):
        if after.text != ".":
            yield from _names([token], vendor)


def _control(words: list[str], tokens: list[Token]) -> tuple[Control | None, str | None]:
    first = words[0]
    if first in ("BEGIN", "START"):
        return "begin", None
    if first in ("COMMIT", "END"):
        return "commit", None
    if first == "SAVEPOINT":
        return "savepoint", tokens[-1].text.lower()
    if first == "RELEASE":
        return "release", tokens[-1].text.lower()
    if first in ("ROLLBACK", "ABORT"):
        return ("rollback to", tokens[-1].text.lower()) if "TO" in words else ("rollback", None)
    return None, None


def _verbs(words: list[str], tokens: list[Token], vendor: str) -> frozenset[str]:
    asks = words[0] in _QUERY or tokens[0].text == "("
    possible = _OF_QUERIES if asks and vendor in _SEPARATES else _VERBS
    return frozenset(
        word
        for at, word in enumerate(words)
        if word in possible and not _harmless(word, at, words, tokens)
    )


def _harmless(word: str, at: int, words: list[str], tokens: list[Token]) -> bool:
    """A verb's word that writes nothing where it stands."""
    after = tokens[at + 1].text if at + 1 < len(tokens) else ""
    if at and tokens[at - 1].text == ".":  # a column or a table
        return True
    if word == "UPDATE":  # FOR UPDATE, FOR NO KEY UPDATE, ON CONFLICT ... DO UPDATE
        before = words[max(at - 3, 0) : at]
        return before[-1:] in (["FOR"], ["DO"]) or before == ["FOR", "NO", "KEY"]
    if word == "DO":
        return after in ("NOTHING", "UPDATE")
    if word == "REPLACE":  # the function, and INSERT OR REPLACE is found by its INSERT
        return after == "("
    if word == "INTO":  # of INSERT INTO and the like; SELECT ... INTO has no other verb
        return bool({"INSERT", "MERGE", "REPLACE"} & set(words[:at]))
    return False


def _locks(words: list[str]) -> bool:
    if words[0] == "LOCK" or "GET_LOCK" in words or any("ADVISORY" in word for word in words):
        return True
    return any(
        word == "FOR"
        and words[at + 1 : at + 2]
        and words[at + 1] in ("UPDATE", "SHARE", "NO", "KEY")
        for at, word in enumerate(words)
    ) or any(words[at : at + 3] == ["LOCK", "IN", "SHARE"] for at in range(len(words)))


def _volatile(tokens: list[Token]) -> str | None:
    for at, (kind, text) in enumerate(tokens):
        if kind == "string" and text.strip("'").lower() in _MOMENTS:
            return text.strip("'").upper()
        if kind == "word" and not (at and tokens[at - 1].text == "."):
            after = [token.text for token in tokens[at + 1 : at + 3]]
            called = after[:1] == ["("]
            if text in _VOLATILE or (called and text in _VOLATILE_FUNCTIONS):
                return text
            if after == ["(", ")"] and text in _NOW_WITHOUT_ARGUMENTS:
                return text
    return None


def _reach(
    words: list[str], tokens: list[Token], verbs: frozenset[str]
) -> tuple[Reach, str | None]:
    if not verbs:
        return "none", None
    if verbs & _OPAQUE or _rearranges(words):
        return "everything", None
    first = words[0]
    if verbs == {"INSERT"} and first == "INSERT":
        target = _name_after("INTO", words, tokens)
        if target is None or words.count("INTO") > 1:
            return "tables", None
        return ("tables" if _upserts(words) else "insert"), target
    if verbs == {first} and first in ("UPDATE", "DELETE"):
        return _reach_of_change(first, words, tokens)
    return "tables", None


def _rearranges(words: list[str]) -> bool:
    """ALTER or DROP of what is no table may change tables that it does not name: a schema, an
    owner's things, a type's labels."""
    kinds = ("SCHEMA", "OWNED", "EXTENSION", "TYPE", "DOMAIN", "DATABASE", "ROLE", "USER")
    return words[0] in ("ALTER", "DROP") and words[1:2] != [] and words[1] in kinds


def _upserts(words: list[str]) -> bool:
    pairs = set(pairwise(words))
    return bool(pairs & {("DO", "UPDATE"), ("ON", "DUPLICATE"), ("OR", "REPLACE")})


def _name_after(word: str, words: list[str], tokens: list[Token]) -> str | None:
    if word not in words:
        return None
    return _name(tokens, words.index(word) + 1)[0]


def _name(tokens: list[Token], at: int) -> tuple[str | None, int]:
    """The table named at `at` (its last part, if a schema stands before it) and what follows;
    no name where it is spelled in another way."""
    if at < len(tokens) and tokens[at] == ("word", "ONLY"):
        at += 1
    while at < len(tokens) and tokens[at].kind in ("word", "quoted"):
        if at + 1 == len(tokens) or tokens[at + 1].text != ".":
            return tokens[at].text.lower(), at + 1
        at += 2
    return None, at


def _reach_of_change(verb: str, words: list[str], tokens: list[Token]) -> tuple[Reach, str | None]:
    """An UPDATE or DELETE without any other writing verb in it."""
    target, at = _target(verb, words, tokens)
    if words[at : at + 1] == ["AS"]:
        return "tables", target
    expected = ("SET",) if verb == "UPDATE" else ("WHERE", "RETURNING", None)
    if target is None or (words[at] if at < len(words) else None) not in expected:
        return "tables", None
    return "rows", target


def _target(verb: str, words: list[str], tokens: list[Token]) -> tuple[str | None, int]:
    """The table that an UPDATE or DELETE names, and what follows it."""
    start = 1
    if verb == "UPDATE" and words[1:2] == ["OR"]:
        start = 3
    if verb == "DELETE":
        start = 2 if words[1:2] == ["FROM"] else len(tokens)
    return _name(tokens, start)


def _changed(target: str | None, clauses: Clauses) -> Changed | None:
    verb = clauses.words[0]
    _, at = _target(verb, clauses.words, list(clauses.tokens))
    if target is None or at >= len(clauses):
        return None
    return read_change(verb, target, at, clauses)
