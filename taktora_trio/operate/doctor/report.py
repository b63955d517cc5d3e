"""What was found, for people and for programs."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator, Sequence

import msgspec

from taktora_trio.connectors.finding import Finding

__all__ = ["Section", "as_json", "as_text", "count"]

_STATUS, _CHECK = 4, 11  # columns
_NARROWEST, _WIDEST = 40, 110


class Section(msgspec.Struct, frozen=True):
    """Findings about one thing, such as the machine or a peer."""

    title: str
    findings: Sequence[Finding]


def count(sections: Sequence[Section], status: str) -> int:
    return sum(finding.status == status for section in sections for finding in section.findings)


def as_text(sections: Sequence[Section]) -> str:
    """Return it as wide as the terminal is, each remedy below what it is for."""
    width = min(max(shutil.get_terminal_size().columns, _NARROWEST), _WIDEST)
    lines: list[str] = []
    for section in sections:
        lines += [*textwrap.wrap(section.title, width, break_long_words=False), *_lines(section.findings, width), ""]
    failures, warnings = count(sections, "fail"), count(sections, "warn")
    lines.append(
        "all is well"
        if not failures and not warnings
        else ", ".join(f"{n} {word}{'s' * (n != 1)}" for n, word in ((failures, "failure"), (warnings, "warning")) if n)
    )
    return "\n".join(lines)


def _lines(findings: Sequence[Finding], width: int) -> Iterator[str]:
    indent = " " * (2 + _STATUS + 2 + _CHECK + 1)
    for finding in findings:
        head = f"  {finding.status:<{_STATUS}}  {finding.check:<{_CHECK}} "
        yield from _wrapped(finding.text, width, head, indent)
        if finding.remedy:
            yield from _wrapped(finding.remedy, width, f"{indent}-> ", f"{indent}   ")


def _wrapped(text: str, width: int, first: str, others: str) -> list[str]:
    # A command or a path that is cut in two can't be copied.
    return textwrap.wrap(
        text, width, initial_indent=first, subsequent_indent=others, break_long_words=False, break_on_hyphens=False
    )


def as_json(sections: Sequence[Section]) -> bytes:
    """Return an object: `ok`, the numbers of failures and warnings, and the findings, each with its section."""
    findings = [
        {
            "section": section.title,
            "check": one.check,
            "status": one.status,
            "text": one.text,
            "remedy": one.remedy or None,
        }
        for section in sections
        for one in section.findings
    ]
    document = {
        "ok": not count(sections, "fail"),
        "failures": count(sections, "fail"),
        "warnings": count(sections, "warn"),
        "findings": findings,
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"
