"""Reads the PTX that Triton emits, inline assembly included, for `ptx_machine.py`."""

from dataclasses import dataclass
import re

_NAME = re.compile(r"[A-Za-z_%$][\w$.]*")


@dataclass(frozen=True)
class Instruction:
    """guard: a predicate with or without `!`, or empty. Operands as text; a vector or address is one operand."""

    guard: str
    opcode: str
    operands: tuple[str, ...]


def parse(ptx: str) -> tuple[list[Instruction], dict[str, int], int]:
    """(instructions, label -> index, threads a program) of the only kernel in `ptx`."""
    ptx = re.sub(r"//[^\n]*", "", ptx)
    threads = int(re.search(r"\.reqntid (\d+)", ptx)[1])  # type: ignore[index]
    text = ptx[ptx.index("{", ptx.index(".reqntid")) + 1 :]
    text = re.sub(r"^\s*\.loc[^\n]*", "", text, flags=re.M)
    code: list[Instruction] = []
    labels: dict[str, int] = {}
    scopes: list[dict[str, str]] = [{}]
    blocks = 0
    at = 0
    while True:
        at += len(text[at:]) - len(text[at:].lstrip())
        if text[at] == "{":
            blocks += 1
            scopes.append({})
            at += 1
        elif text[at] == "}":
            scopes.pop()
            at += 1
            if not scopes:
                return code, labels, threads
        elif label := re.compile(r"(\$\w+):").match(text, at):
            labels[label[1]] = len(code)
            at = label.end()
        else:
            end = text.index(";", at)
            statement, at = " ".join(text[at:end].split()), end + 1
            if statement.startswith(".reg"):
                if len(scopes) > 1:
                    scopes[-1].update((name, f"{name}@{blocks}") for name in _NAME.findall(statement.split(" ", 2)[2]))
            elif not statement.startswith(".pragma"):
                code.append(_instruction(statement, scopes))


def _instruction(statement: str, scopes: list[dict[str, str]]) -> Instruction:
    match = re.fullmatch(r"(?:@(!?\S+) )?([\w.:]+)\s*(.*)", statement)
    if match is None:
        raise NotImplementedError(statement)
    guard, opcode, text = match.groups()

    def renamed(found: re.Match[str]) -> str:
        return next((scope[found[0]] for scope in reversed(scopes) if found[0] in scope), found[0])

    operands = re.findall(r"\{[^}]*\}|\[[^]]*\]|[^,\s][^,]*", _NAME.sub(renamed, text))
    return Instruction(_NAME.sub(renamed, guard or ""), opcode, tuple(operand.strip() for operand in operands))
