"""The tables of a report as LaTeX."""

from __future__ import annotations

from safemt_client.results.report.document import Document, Figure, Table

__all__ = ["escaped", "latex"]

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "'": r"\textquotesingle{}",
    "`": r"\textasciigrave{}",
    "-": r"{-}",
    "[": r"{[}",
    "]": r"{]}",
    "*": r"{*}",
    "…": r"\ldots{}",
    "×": r"\ensuremath{\times}",
    "±": r"\ensuremath{\pm}",
    "≤": r"\ensuremath{\leq}",
    "≥": r"\ensuremath{\geq}",
}
_HEAD = r"""% Tables of a safemt_client report: a document, or by \input a part of one whose preamble has:
%   \usepackage[T1]{fontenc}
%   \usepackage{textcomp,booktabs,longtable}
% Wide tables: put it in \begingroup\small ... \endgroup, or a landscape page.
% A character beyond the Latin ones is set as its code; with XeLaTeX or LuaLaTeX and a font that has it:
%   \newcommand{\safemtchar}[2]{#2}
\expandafter\ifx\csname @nodocument\endcsname\relax\else
\documentclass[10pt]{article}
\usepackage[T1]{fontenc}
\usepackage{textcomp,booktabs,longtable}
\usepackage[a4paper,landscape,margin=15mm]{geometry}
\begin{document}
\def\safemtend{\end{document}}
\fi
\providecommand{\safemtchar}[2]{U+#1}
\providecommand{\safemtend}{}"""


def latex(document: Document) -> str:
    """A file of longtables with booktabs' rules, one for each table of the report."""
    parts = [_HEAD, f"% {escaped(document.title)}"]
    parts += [f"% warning: {escaped(warning)}" for warning in document.warnings]
    for section in document.sections:
        parts.append(f"\n% ---- {escaped(section.title)}")
        for place, block in enumerate(section.blocks):
            if isinstance(block, Table | Figure):
                table = block.table if isinstance(block, Figure) else block
                parts.append(_table(table, f"tab:safemt-{section.key}-{place}"))
    return "\n".join([*parts, r"\safemtend"]) + "\n"


def escaped(text: str) -> str:
    """The text with everything that LaTeX would act on made harmless."""
    return "".join(_character(character) for character in text)


def _character(character: str) -> str:
    if character in _SPECIAL:
        return _SPECIAL[character]
    latin = "\u00c0" <= character <= "\u017f" and character != "÷"
    if character.isascii() or latin:
        return character
    return rf"\safemtchar{{{ord(character):04X}}}{{{character}}}"


def _table(table: Table, label: str) -> str:
    numbers = [column.numeric for column in table.columns]
    # Long texts break in a column of a fixed width.
    columns = [
        "r" if numeric else rf"p{{{_width(table, place)}\linewidth}}" if _long(table, place) else "l"
        for place, numeric in enumerate(numbers)
    ]
    head = " & ".join(escaped(column.name) for column in table.columns)
    lines = [
        rf"\begin{{longtable}}{{{''.join(columns)}}}",
        rf"\caption{{{escaped(table.caption)}}}\label{{{label}}}\\",
        rf"\toprule {head} \\ \midrule",
        r"\endfirsthead",
        rf"\toprule {head} \\ \midrule",
        r"\endhead",
        r"\bottomrule",
        r"\endfoot",
        *(" & ".join(escaped(cell) for cell in row) + r" \\" for row in table.rows),
        r"\end{longtable}",
    ]
    if table.note:
        lines.append(rf"\noindent{{\footnotesize {escaped(table.note)}\par}}")
    return "\n".join(lines)


def _long(table: Table, place: int) -> bool:
    return max((len(row[place]) for row in table.rows), default=0) > 40


def _width(table: Table, place: int) -> str:
    long = sum(_long(table, other) for other in range(len(table.columns)))
    return f"{0.6 / long:.2f}"
