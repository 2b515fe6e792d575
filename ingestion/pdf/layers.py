"""Optional content of a PDF: which layers its default configuration shows, and removal of what it hides.

ISO 32000-1, 8.11. Engines do not draw hidden content, but PDFium's text extraction returns it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import pikepdf
from pikepdf import Array, Dictionary, Name, Pdf

from ingestion.pdf.page_tree import inherited

_DEEPEST: Final = 20
_MOST_FORMS: Final = 1000
_POLICIES: Final[dict[str, Callable[[list[bool]], bool]]] = {
    "/AllOn": all,
    "/AnyOn": any,
    "/AnyOff": lambda shown: not all(shown),
    "/AllOff": lambda shown: not any(shown),
}


@dataclass(frozen=True, slots=True)
class Layers:
    """`hidden`: object numbers of the optional content groups that are off. `are_hidden`: whether any is."""

    hidden: frozenset[tuple[int, int]]

    @property
    def are_hidden(self) -> bool:
        return bool(self.hidden)

    @classmethod
    def of(cls, catalog: pikepdf.Object) -> Layers:
        with suppress(ValueError, TypeError, KeyError, AttributeError, RuntimeError):
            properties = catalog.get("/OCProperties")
            if isinstance(properties, Dictionary):
                return cls(frozenset(_hidden(properties)))
        return cls(frozenset())

    def shows(self, content: pikepdf.Object | None, depth: int = 0) -> bool:
        """Whether a group or a membership dictionary is visible. True for objects that are neither."""
        if not isinstance(content, Dictionary) or depth > _DEEPEST:
            return True
        if content.get("/Type") != Name("/OCMD"):
            return content.objgen not in self.hidden
        if isinstance(expression := content.get("/VE"), Array):
            return self._holds(expression, depth + 1)
        groups = content.get("/OCGs")
        members = list(groups) if isinstance(groups, Array) else [groups]
        shown = [one.objgen not in self.hidden for one in members if isinstance(one, Dictionary)]
        policy = _POLICIES.get(str(content.get("/P", "/AnyOn")), any)
        return policy(shown) if shown else True

    def _holds(self, expression: Array, depth: int) -> bool:
        """A visibility expression: [/And|/Or|/Not operand...]."""
        operands = [
            self._holds(one, depth + 1) if isinstance(one, Array) and depth < _DEEPEST else self.shows(one, depth)
            for one in list(expression)[1:]
        ]
        match str(expression[0]):
            case "/Not":
                return not operands[0] if operands else True
            case "/Or":
                return any(operands)
            case _:
                return all(operands)


def _hidden(properties: Dictionary) -> set[tuple[int, int]]:
    """The groups that the default configuration switches off."""
    default = properties.get("/D")
    groups = {one.objgen for one in properties.get("/OCGs", Array())}
    if not isinstance(default, Dictionary):
        return set()
    hidden = set(groups) if default.get("/BaseState") == Name("/OFF") else set()
    hidden -= {one.objgen for one in default.get("/ON", Array())}
    hidden |= {one.objgen for one in default.get("/OFF", Array())}
    return hidden - {(0, 0)}


def remove_hidden(pdf: Pdf, page: Dictionary, layers: Layers) -> bool:
    """Remove the hidden content of a page, of its forms and of its annotations. True where there was any."""
    resources = inherited(page, "/Resources")
    is_changed = False
    if isinstance(resources, Dictionary) and "/Contents" in page:
        shown = _shown(page, resources, layers)
        if shown is not None:
            page["/Contents"] = pdf.make_stream(shown)
            is_changed = True
        is_changed |= _remove_from_forms(resources, layers)
    annotations = page.get("/Annots")
    if isinstance(annotations, Array):
        kept = [one for one in annotations if not isinstance(one, Dictionary) or layers.shows(one.get("/OC"))]
        if len(kept) < len(annotations):
            page["/Annots"] = Array(kept)
            is_changed = True
    return is_changed


def _remove_from_forms(resources: Dictionary, layers: Layers) -> bool:
    is_changed = False
    seen: set[tuple[int, int]] = set()
    waiting = [resources]
    while waiting and len(seen) < _MOST_FORMS:
        forms = waiting.pop().get("/XObject")
        for _, form in forms.items() if isinstance(forms, Dictionary) else ():
            if not isinstance(form, pikepdf.Stream) or form.objgen in seen or form.get("/Subtype") != Name("/Form"):
                continue
            seen.add(form.objgen)
            own = form.get("/Resources", resources)
            if isinstance(own, Dictionary):
                waiting.append(own)
                if (shown := _shown(form, own, layers)) is not None:
                    form.write(shown)
                    is_changed = True
    return is_changed


def _shown(container: pikepdf.Object, resources: Dictionary, layers: Layers) -> bytes | None:
    """The content stream without its hidden parts; None where it has none."""
    properties, drawn = resources.get("/Properties"), resources.get("/XObject")
    has_properties = isinstance(properties, Dictionary)
    has_forms = isinstance(drawn, Dictionary) and any(
        isinstance(one, pikepdf.Stream) and not layers.shows(one.get("/OC")) for _, one in drawn.items()
    )
    if not has_properties and not has_forms:
        return None
    kept, marks, is_changed = [], [], False
    for instruction in pikepdf.parse_content_stream(container):
        name, operands = str(instruction.operator), instruction.operands
        if name in ("BDC", "BMC"):
            marks.append(_is_hidden(list(operands), properties, layers) if name == "BDC" else False)
        is_hidden = any(marks)
        if name == "EMC" and marks:
            marks.pop()
        if name == "Do" and isinstance(drawn, Dictionary) and operands:
            form = drawn.get(str(operands[0]))
            is_hidden |= isinstance(form, pikepdf.Stream) and not layers.shows(form.get("/OC"))
        if is_hidden and name not in _STATE:
            is_changed = True
            continue
        kept.append(instruction)
    return pikepdf.unparse_content_stream(kept) if is_changed else None


_STATE: Final = frozenset(
    ["q", "Q", "cm", "BT", "ET", "Tf", "Td", "TD", "Tm", "T*", "TL", "Tc", "Tw", "Tz", "Ts", "gs"]
)
"""Operators that change the state of what follows: hidden content may set it, too."""


def _is_hidden(operands: Sequence[pikepdf.Object], properties: object, layers: Layers) -> bool:
    if len(operands) != 2 or operands[0] != Name("/OC"):
        return False
    content: pikepdf.Object | None = operands[1]
    if isinstance(content, Name) and isinstance(properties, Dictionary):
        content = properties.get(str(content))
    return not layers.shows(content)
