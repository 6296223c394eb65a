"""Run the Python blocks of a page of documentation, and hold them to what they claim.

    python tests/pages.py docs/servers.md      the page's blocks, in one namespace, as one program
    python tests/pages.py README.md 40         the block that opens at line 40, as a program
    python tests/pages.py tests/typed/task.py  a file that is Python as a whole

A claim is a comment at the end of a statement, or on lines of its own just below it:

    call(counter, "get")                 # -> 12                          the value's repr
    call(counter, "nonsense")            # raises CallExit, reason 'boom' the error and its reason
    process.receive(timeout=0)           # raises ReceiveTimeout: no ...  the error and its text

"..." in a claim stands for anything. Of a `print(...)` what is printed counts. A claim that is
never reached is wrong, too: the page would say what nobody has seen.

HTML comments just above a block say how it is run: `<!-- not run: why -->`; `<!-- program -->`, for
a block that runs alone, and may go on with `: exit 1` or `: SIGTERM after "up", exit 0`; what such
a program prints stands in a block of `text` just below it, if it matters.
"""

from __future__ import annotations

import ast
import doctest
import faulthandler
import io
import itertools
import re
import sys
import tokenize
import types
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SECONDS = 45.0
"""How long a page may take; then it shows all stacks and ends."""

LANGUAGES = ("python", "text", "console", "yaml")
_FENCE = re.compile(r"^```(?P<language>\w*)[ \t]*\n(?P<source>.*?)^```[ \t]*$", re.M | re.S)
_COMMENT_ABOVE = re.compile(r"<!--(?P<text>(?:(?!-->).)*)-->\s*\Z", re.S)
_PROGRAM = re.compile(
    r"program(?:: (?:(?P<signal>SIG\w+) after \"(?P<after>[^\"]+)\", )?exit (?P<status>-?\d+))?"
)
_CLAIM = re.compile(r"#\s*(?P<kind>->|raises) (?P<text>.+)")
_RAISES = re.compile(r"(?P<error>\w+)(?:, reason (?P<reason>.+)|: (?P<text>.+))?", re.S)


@dataclass(frozen=True)
class Block:
    """One fenced block of a page; ``line`` is that of its fence."""

    page: str
    line: int
    language: str
    source: str
    comment: str
    prints: str | None  # the text block just below it

    @property
    def is_run(self) -> bool:
        return self.language == "python" and not self.comment.startswith("not run:")

    @property
    def program(self) -> re.Match[str] | None:
        """How the block is run alone; None when it shares its page's namespace."""
        return _PROGRAM.fullmatch(self.comment)


def blocks_of(page: str) -> list[Block]:
    """The fenced blocks of a page, in order; a Python file is one block."""
    text = (ROOT / page).read_text(encoding="utf-8")
    if page.endswith(".py"):
        return [Block(page, 0, "python", text, "", None)]
    fences = list(_FENCE.finditer(text))
    blocks = []
    for fence, following in itertools.zip_longest(fences, fences[1:]):
        above = _COMMENT_ABOVE.search(text, 0, fence.start())
        prints = None
        if following is not None and following["language"] == "text":
            between = text[fence.end() : following.start()]
            prints = following["source"] if not between.strip() else None
        blocks.append(
            Block(
                page,
                text.count("\n", 0, fence.start()) + 1,
                fence["language"],
                fence["source"],
                "" if above is None else " ".join(above["text"].split()),
                prints,
            )
        )
    return blocks


# ---- claims


@dataclass
class Claim:
    """What a comment says of the statement that ends at ``line``."""

    line: int
    kind: str
    text: str
    reached: bool = False


def claims_of(block: Block) -> dict[int, Claim]:
    """The claims in a block's comments, by the line of the statement that they are about."""
    claims: dict[int, Claim] = {}
    current: Claim | None = None
    last_code_line = 0
    for token in tokenize.generate_tokens(io.StringIO(block.source).readline):
        if token.type is tokenize.COMMENT:
            alone = token.line.lstrip().startswith("#")
            match = _CLAIM.fullmatch(token.string)
            if match:
                current = Claim(last_code_line, match["kind"], match["text"])
                claims[last_code_line] = current
            elif current is not None and alone and token.string.startswith("#    "):
                current.text += "\n" + token.string[1:].strip()  # The claim goes on.
            else:
                current = None
        elif token.type not in (tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT):
            current = None
            last_code_line = token.end[0]
    return claims


class _Claims(ast.NodeTransformer):
    """Wraps each statement that something is claimed of."""

    def __init__(self, claims: dict[int, Claim]) -> None:
        self.open = dict(claims)

    def visit(self, node: ast.AST) -> Any:
        node = self.generic_visit(node)
        line = getattr(node, "end_lineno", None)
        if not isinstance(node, ast.stmt) or line not in self.open:
            return node
        kind = self.open[line].kind
        if kind == "raises" and isinstance(node, ast.Expr | ast.Assign):
            wrapped = _at(node, f"with __raises__({line}): pass")
            assert isinstance(wrapped, ast.With)
            wrapped.body = [node]
        elif kind == "->" and isinstance(node, ast.Expr):
            wrapped = _at(node, f"__shows__({line}, lambda: 0)")
            assert isinstance(wrapped, ast.Expr)
            assert isinstance(wrapped.value, ast.Call)
            thunk = wrapped.value.args[1]
            assert isinstance(thunk, ast.Lambda)
            thunk.body = node.value
        else:
            return node
        del self.open[line]
        return wrapped


def _at(place: ast.stmt, source: str) -> ast.stmt:
    """The statement of a source, as if it stood where ``place`` stands."""
    statement = ast.parse(source).body[0]
    for node in ast.walk(statement):
        ast.copy_location(node, place)
    return statement


def matches(claimed: str, found: str) -> bool:
    """Whether what was found is what a claim says; "..." stands for anything."""
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    return doctest.OutputChecker().check_output(claimed.strip() + "\n", found.strip() + "\n", flags)


class WrongClaim(AssertionError):
    """The page says what is not so."""


class Runner:
    """Runs blocks in one namespace."""

    def __init__(self) -> None:
        # In the place of __main__, so that the blocks find themselves where a script would.
        module = types.ModuleType("__main__")
        module.__dict__["print"] = self._print
        sys.modules["__main__"] = module
        self._namespace = module.__dict__
        self._printed = ""

    def run(self, block: Block) -> None:
        """Run a block; raises what it raises, and WrongClaim."""
        claims = claims_of(block)
        at = f"{block.page}, line "

        def shows(line: int, thunk: Any) -> None:
            claims[line].reached = True
            before, self._printed = self._printed, ""
            value = thunk()
            found = self._printed if value is None and self._printed else repr(value)
            self._printed = before
            if not matches(claims[line].text, found):
                raise WrongClaim(f"{at}{block.line + line}: {claims[line].text}\nit is: {found}")

        @contextmanager
        def raises(line: int) -> Iterator[None]:
            claims[line].reached = True
            claimed = _RAISES.fullmatch(claims[line].text)
            assert claimed is not None, claims[line].text
            try:
                yield
            except BaseException as error:
                reason = getattr(error, "reason", None)
                if (
                    type(error).__name__ == claimed["error"]
                    and matches(claimed["reason"] or "...", repr(reason))
                    and matches(claimed["text"] or "...", str(error))
                ):
                    return
                raise WrongClaim(
                    f"{at}{block.line + line}: {claims[line].text}\nit was: {error!r}"
                    f" with the reason {reason!r}, {error}"
                ) from error
            raise WrongClaim(f"{at}{block.line + line}: {claims[line].text}\nnothing was raised")

        transformer = _Claims(claims)
        tree = transformer.visit(ast.parse(block.source, str(ROOT / block.page)))
        if transformer.open:
            raise WrongClaim(
                f"{at}{block.line + min(transformer.open)}: a claim about no statement"
            )
        ast.increment_lineno(tree, block.line)
        self._namespace.update(__shows__=shows, __raises__=raises)
        code = compile(tree, str(ROOT / block.page), "exec", dont_inherit=True)
        exec(code, self._namespace)
        for claim in claims.values():
            if not claim.reached:
                raise WrongClaim(f"{at}{block.line + claim.line}: never reached: {claim.text}")

    def _print(self, *values: Any, sep: str = " ", end: str = "\n") -> None:
        text = sep.join(map(str, values)) + end
        self._printed += text
        sys.stdout.write(text)
        sys.stdout.flush()


def main(page: str, line: str | None = None) -> None:
    """Run a page, or the one block of it that opens at ``line``."""
    faulthandler.dump_traceback_later(SECONDS, exit=True)
    runner = Runner()
    for block in blocks_of(page):
        if block.line == int(line) if line else block.is_run and block.program is None:
            runner.run(block)


if __name__ == "__main__":
    main(*sys.argv[1:])
