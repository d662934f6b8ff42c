"""Liberty syntax: groups, attributes, lookup tables and Boolean functions, with line numbers in every error.

    group      ::=  name ( arguments ) { statements }
    statement  ::=  group  |  name : value ;  |  name ( arguments ) ;

Functions, by falling precedence: ``!a`` or ``a'`` (not), ``&``, ``*`` or a space (and), ``^`` (exclusive or), ``|`` or
``+`` (or).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product

import numpy as np

from hls.costs import TechnologyError

_TOKEN = re.compile(
    r'(?P<skip>\s+|\\\r?\n|/\*.*?\*/|//[^\n]*)|"(?P<string>[^"]*)"|(?P<mark>[(){}:;,])|(?P<word>[^\s(){}:;,"]+)',
    re.DOTALL,
)
_FUNCTION_TOKEN = re.compile(r"\s*([A-Za-z_]\w*(?:\[\d+\])?|[01!'&*^|+()])")


class LibertyError(TechnologyError):
    """A Liberty file that cannot be read; the message begins with file and line."""


@dataclass(frozen=True)
class Group:
    """A Liberty group: simple attributes hold one value, complex ones a tuple."""

    kind: str
    arguments: tuple[str, ...]
    where: str
    attributes: dict[str, str] = field(default_factory=dict)
    complex_attributes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    groups: list[Group] = field(default_factory=list)

    @property
    def name(self) -> str:
        """First argument, or nothing."""
        return self.arguments[0] if self.arguments else ""

    def all(self, kind: str) -> Iterator[Group]:
        """Subgroups of a kind, in order."""
        return (g for g in self.groups if g.kind == kind)

    def number(self, attribute: str, default: float | None = None) -> float:
        """A simple attribute as a number.

        Raises:
            LibertyError: if it is no number, or missing without a default.
        """
        text = self.attributes.get(attribute)
        if text is None and default is not None:
            return default
        try:
            return float(text if text is not None else "")
        except ValueError:
            said = "is missing" if text is None else f"is {text!r}, not a number"
            raise LibertyError(f"{self.where}: {attribute} of {self.kind} {self.name} {said}") from None


@dataclass(frozen=True)
class _Token:
    text: str
    mark: bool
    line: int


def _tokens(text: str, name: str) -> Iterator[_Token]:
    position, line = 0, 1
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            what = "a string without end" if text[position] == '"' else f"unexpected {text[position]!r}"
            raise LibertyError(f"{name}:{line}: {what}")
        kind = match.lastgroup
        if kind != "skip":
            yield _Token(match[kind or 0].replace("\\\n", " "), kind == "mark", line)
        line += match[0].count("\n")
        position = match.end()


class _Parser:
    """Recursive descent over the tokens of one file."""

    def __init__(self, text: str, name: str) -> None:
        self.name = name
        self.tokens = list(_tokens(text, name))
        self.next = 0

    def peek(self, mark: str) -> bool:
        """Whether the next token is this mark."""
        return self.next < len(self.tokens) and self.tokens[self.next].mark and self.tokens[self.next].text == mark

    def take(self, expected: str) -> _Token:
        """The next token, which has to be this mark, or any word for ``word``."""
        if self.next == len(self.tokens):
            line = self.tokens[-1].line if self.tokens else 1
            raise LibertyError(f"{self.name}:{line}: the file ends where {expected!r} should be; is a brace missing?")
        token = self.tokens[self.next]
        if token.mark != (expected != "word") or (token.mark and token.text != expected):
            raise LibertyError(f"{self.name}:{token.line}: {token.text!r} where {expected!r} should be")
        self.next += 1
        return token

    def arguments(self) -> tuple[str, ...]:
        """Comma-separated words in parentheses."""
        self.take("(")
        found: list[str] = []
        while not self.peek(")"):
            if self.peek(","):
                self.take(",")
            else:
                found.append(self.take("word").text)
        self.take(")")
        return tuple(found)

    def group(self, word: _Token, arguments: tuple[str, ...]) -> Group:
        """The body of a group."""
        group = Group(word.text, arguments, f"{self.name}:{word.line}")
        self.take("{")
        while not self.peek("}"):
            if self.peek(";"):
                self.take(";")
                continue
            name = self.take("word")
            if self.peek(":"):
                self.take(":")
                group.attributes[name.text] = self.value(name.line)
            else:
                inner = self.arguments()
                if self.peek("{"):
                    group.groups.append(self.group(name, inner))
                else:
                    group.complex_attributes[name.text] = inner
        self.take("}")
        return group

    def value(self, line: int) -> str:
        """Words up to the semicolon, or, as many files leave it out, to the end of the line."""
        words = [self.take("word").text]
        while self.next < len(self.tokens) and not self.tokens[self.next].mark and self.tokens[self.next].line == line:
            words.append(self.take("word").text)
        if self.peek(";"):
            self.take(";")
        return " ".join(words)


def parse_liberty(text: str, name: str = "liberty") -> Group:
    """The ``library`` group of a Liberty file.

    Raises:
        LibertyError: with line number.
    """
    parser = _Parser(text, name)
    word = parser.take("word")
    if word.text != "library":
        raise LibertyError(f"{name}:{word.line}: {word.text!r} where 'library' should be")
    library = parser.group(word, parser.arguments())
    if parser.next < len(parser.tokens):
        token = parser.tokens[parser.next]
        raise LibertyError(f"{name}:{token.line}: {token.text!r} after the end of the library")
    return library


@dataclass(frozen=True)
class LookupTable:
    """Values over one or two axes, by bilinear interpolation, and linear extrapolation as timing tools do.

    Args:
        slews: input transition axis; one point if the table does not depend on it.
        loads: output load axis (for a constraint: the clock's transition).
        values: ``[len(slews)][len(loads)]``.
    """

    slews: tuple[float, ...]
    loads: tuple[float, ...]
    values: tuple[tuple[float, ...], ...]

    def __call__(self, slew: float, load: float) -> float:
        """Value at a slew and a load, in the units of the table."""
        rows = [_interpolate(self.loads, row, load) for row in self.values]
        return _interpolate(self.slews, rows, slew)


def _interpolate(axis: Sequence[float], values: Sequence[float], at: float) -> float:
    if len(axis) == 1:
        return values[0]
    i = min(max(int(np.searchsorted(axis, at)) - 1, 0), len(axis) - 2)
    return values[i] + (values[i + 1] - values[i]) * (at - axis[i]) / (axis[i + 1] - axis[i])


def _numbers(texts: Sequence[str], where: str) -> tuple[float, ...]:
    try:
        return tuple(float(word) for text in texts for word in re.split(r"[\s,]+", text.strip()) if word)
    except ValueError as error:
        raise LibertyError(f"{where}: {error}") from None


def lookup_table(group: Group, library: Group) -> LookupTable:
    """The lookup table of a group such as ``cell_rise``, with its axes from there or from the named template.

    Raises:
        LibertyError: if the template is unknown or the number of values does not fit the axes.
    """
    texts = group.complex_attributes.get("values")
    if texts is None:
        raise LibertyError(f"{group.where}: {group.kind} has no values")
    values = _numbers(texts, group.where)
    if len(values) == 1:
        return LookupTable((0.0,), (0.0,), (values,))
    template = next((t for t in library.all("lu_table_template") if t.name == group.name), None)
    slews: tuple[float, ...] = (0.0,)
    loads: tuple[float, ...] = (0.0,)
    order: list[str] = []
    for number in ("1", "2"):
        index, variable = f"index_{number}", f"variable_{number}"
        given = group.complex_attributes.get(index) or (template.complex_attributes.get(index) if template else None)
        if given:
            meaning = template.attributes.get(variable, "") if template else ""
            slew = "slew" not in order and ("transition" in meaning or (not meaning and number == "1"))
            order.append("slew" if slew else "load")
            if slew:
                slews = _numbers(given, group.where)
            else:
                loads = _numbers(given, group.where)
    if not order:
        raise LibertyError(f"{group.where}: {group.kind} has no axes: no template {group.name!r} and no index_1")
    if len(values) != len(slews) * len(loads):
        raise LibertyError(f"{group.where}: {len(values)} values for {len(slews)} x {len(loads)} points of the axes")
    grid = np.array(values).reshape((len(slews), len(loads)) if order[0] == "slew" else (len(loads), len(slews)))
    grid = grid if order[0] == "slew" else grid.T
    return LookupTable(slews, loads, tuple(tuple(map(float, row)) for row in grid))


@dataclass(frozen=True)
class Function:
    """A Boolean function as Liberty writes it."""

    text: str
    where: str

    @cached_property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs, sorted."""
        return tuple(sorted({t for t in self._tokens if t[0].isalpha() or t[0] == "_"}))

    @cached_property
    def _tokens(self) -> list[str]:
        found, position = [], 0
        text = self.text.strip()
        while position < len(text):
            match = _FUNCTION_TOKEN.match(text, position)
            if match is None:
                raise LibertyError(f"{self.where}: function {self.text!r} is not understood at {text[position:]!r}")
            found.append(match[1])
            position = match.end()
        return found

    def truth_table(self, order: Sequence[str]) -> tuple[bool, ...]:
        """Values for all inputs, the first of `order` changing slowest.

        Raises:
            LibertyError: if the function does not parse.
        """
        return tuple(
            self._evaluate(dict(zip(order, bits, strict=True))) for bits in product((False, True), repeat=len(order))
        )

    def _evaluate(self, inputs: dict[str, bool]) -> bool:
        tokens = [*self._tokens, ""]
        position = 0

        def atom() -> bool:
            nonlocal position
            token = tokens[position]
            position += 1
            if token == "!":
                return not atom()
            if token == "(":
                value = either()
                if tokens[position] != ")":
                    raise LibertyError(f"{self.where}: function {self.text!r} lacks a closing parenthesis")
                position += 1
            elif token in ("0", "1"):
                value = token == "1"
            elif token in inputs:
                value = inputs[token]
            else:
                raise LibertyError(f"{self.where}: function {self.text!r} is not understood at {token or 'its end'!r}")
            while tokens[position] == "'":
                value = not value
                position += 1
            return value

        def both() -> bool:
            nonlocal position
            value = atom()
            while tokens[position] not in ("", ")", "|", "+", "^"):
                position += tokens[position] in ("&", "*")
                value &= atom()
            return value

        def different() -> bool:
            nonlocal position
            value = both()
            while tokens[position] == "^":
                position += 1
                value ^= both()
            return value

        def either() -> bool:
            nonlocal position
            value = different()
            while tokens[position] in ("|", "+"):
                position += 1
                value |= different()
            return value

        value = either()
        if tokens[position]:
            raise LibertyError(f"{self.where}: function {self.text!r} is not understood at {tokens[position]!r}")
        return value
