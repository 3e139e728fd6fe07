"""The text of a SQL statement as tokens, cut as each database cuts it (pure).

What one database takes for a comment or a literal, another runs: comments nest in PostgreSQL
alone, a backslash is an escape in MySQL, `E'...'` and `$$...$$` quote in PostgreSQL only.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class Token(NamedTuple):
    kind: str
    """word, quoted (an identifier), string, placeholder, number or mark (one character)."""
    text: str
    """A word in upper case, an identifier without its quotes, anything else as it stands."""


_PLACEHOLDER = r"%%|%(?:\([^)]*\))?[sbt]"
_TEMPLATE = r"""
    (?P<skip>\s+|{comment})
  | (?P<string>{string})
  | (?P<quoted>{quoted})
  | (?P<placeholder>{placeholder})
  | (?P<number>\d[\w.]*)
  | (?P<word>[^\W\d][\w$]*)
  | (?P<mark>.)
"""


def _pattern(*, comment: str, string: str, quoted: str) -> re.Pattern[str]:
    return re.compile(
        _TEMPLATE.format(comment=comment, string=string, quoted=quoted, placeholder=_PLACEHOLDER),
        re.VERBOSE | re.DOTALL,
    )


_POSTGRESQL = _pattern(
    comment=r"--[^\r\n]*",  # and /* */, which nests: see _after_comment
    string=r"""[eE]'[^'\\]*(?:(?:\\.|'')[^'\\]*)*'
             | (?:[bBnNxX]|[uU]&)?'[^']*(?:''[^']*)*'
             | \$(?P<tag>(?:[^\W\d]\w*)?)\$.*?\$(?P=tag)\$""",
    quoted=r'"[^"]*(?:""[^"]*)*"',
)
_SQLITE = _pattern(
    comment=r"--[^\n]*|/\*.*?\*/",
    string=r"[xX]?'[^']*(?:''[^']*)*'",
    quoted=r'"[^"]*(?:""[^"]*)*"|`[^`]*(?:``[^`]*)*`|\[[^\]]*\]',
)
_MYSQL = _pattern(
    comment=r"--(?=\s|\Z)[^\n]*|\#[^\n]*|/\*(?!M?!).*?\*/",  # /*! and /*M! are code
    string=r"[bBnNxX]?'[^'\\]*(?:(?:\\.|'')[^'\\]*)*'",
    quoted=r'"[^"\\]*(?:(?:\\.|"")[^"\\]*)*"|`[^`]*(?:``[^`]*)*`',
)
_DIALECTS = {"sqlite": _SQLITE, "mysql": _MYSQL}
_COMMENT_MARK = re.compile(r"/\*|\*/")
_ANY_PLACEHOLDER = re.compile(_PLACEHOLDER)


def tokens(sql: str, vendor: str) -> list[Token] | None:
    """The tokens of `sql`, without comments; None where it cannot be told where a literal or
    a comment ends. A vendor that is not known is read as PostgreSQL."""
    pattern = _DIALECTS.get(vendor, _POSTGRESQL)
    found: list[Token] = []
    at = 0
    while at < len(sql):
        if pattern is _POSTGRESQL and sql.startswith("/*", at):
            end = _after_comment(sql, at)
            if end is None:
                return None
            at = end
            continue
        match = pattern.match(sql, at)
        assert match is not None  # a mark is any character
        at = match.end()
        if match.lastgroup != "skip":
            token = _token(match)
            if _is_unclear(token, sql, match.start(), found):
                return None
            found.append(token)
    return found


def _after_comment(sql: str, start: int) -> int | None:
    """Where the comment that begins at `start` ends, those within it included."""
    depth = 0
    for mark in _COMMENT_MARK.finditer(sql, start):
        depth += 1 if mark[0] == "/*" else -1
        if depth == 0:
            return mark.end()
    return None


def _token(match: re.Match[str]) -> Token:
    kind, text = str(match.lastgroup), match[0]
    if kind == "word" and text.isascii():  # all keywords are; not every letter survives upper()
        text = text.upper()
    elif kind == "quoted":
        text = text[1:-1]
    return Token(kind, text)


def _is_unclear(token: Token, sql: str, start: int, before: list[Token]) -> bool:
    if token.kind == "mark":
        return token.text in "'\"`" or sql.startswith(("/*", "$$"), start)
    if token.kind == "string":  # it goes on: E'...' '...'
        return bool(before) and before[-1].kind == "string" and before[-1].text[0] in "eE"
    # U&"..." spells its letters as numbers.
    return token.kind == "quoted" and sql[max(start - 2, 0) : start] in ("U&", "u&")


def hides_placeholders(sql: str, read: list[Token]) -> bool:
    """Whether something that looks like a placeholder stands in a literal, an identifier or a
    comment: some drivers give it a parameter, others do not."""
    seen = [token.text for token in read if token.kind == "placeholder"]
    return [text for text in _ANY_PLACEHOLDER.findall(sql) if text != "%%"] != [
        text for text in seen if text != "%%"
    ]
