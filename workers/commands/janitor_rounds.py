"""The work and the output of `pagemill janitor`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import anyio
from rich import box
from rich.table import Table

from ingestion.model import check_qualified
from workers.audit.mismatch import Mismatch, MismatchKind, NotJudged, TooYoung
from workers.backfill import BackfillResult
from workers.commands.installation import open_installation
from workers.commands.terminal import cell, say, stdout, write_json_line
from workers.janitor import REMAKE, REMEDY, auditor_of, janitor_of
from workers.lifecycle.housekeeping import LifecycleResult
from workers.recovery import RoundResult
from workers.wiring import code_backfill_of, lifecycle_of, term_backfill_of


def do_round(*, check: bool, collection: str | None, as_json: bool, data_dir: Path | None) -> bool:
    """True where everything was judged and is in order now. Raises BadRequest, DependencyUnavailable."""
    if collection is not None:
        check_qualified(collection)
    return anyio.run(_do_round, check, collection, as_json, data_dir)


async def _do_round(check: bool, collection: str | None, as_json: bool, data_dir: Path | None) -> bool:
    async with open_installation(data_dir) as services:
        done = RoundResult() if check else await janitor_of(services).round(collection)
        changed = LifecycleResult() if check else await lifecycle_of(services).round(collection)
        codes = BackfillResult() if check else await code_backfill_of(services).round(collection)
        terms = BackfillResult() if check else await term_backfill_of(services).round(collection)
        _show_round(done, as_json)
        _show_lifecycle(changed, as_json)
        _show_backfill("sign codes", codes, as_json)
        _show_backfill("terms", terms, as_json)
        mismatches, too_young, not_judged = [], TooYoung(), NotJudged()
        audited = auditor_of(services).mismatches(
            collection=collection, repair=not check, too_young=too_young, not_judged=not_judged
        )
        async for mismatch in audited:
            mismatches.append(mismatch)
            if as_json:
                write_json_line(_as_json(mismatch))
    if not as_json:
        _show_mismatches(mismatches)
    _show_too_young(too_young, as_json)
    _show_not_judged(not_judged, as_json)
    has_failed = bool(done.failed or changed.failed or codes.failed or terms.failed or not_judged.causes)
    return not has_failed and all(mismatch.is_repaired for mismatch in mismatches)


def _show_round(done: RoundResult, as_json: bool) -> None:
    for kind, count in done.repaired.items():
        if as_json:
            write_json_line({"repaired": kind.value, "documents": count})
        else:
            say("repaired", f"{kind.value.replace('_', ' ')}:", f"{count} document(s)")
    for state, count in sorted(done.unreadable.items()):
        if as_json:
            write_json_line({"left_alone": state, "documents": count})
        else:
            say(cell(f"left alone: {count} document(s) that are {state!r}, which only a newer release knows"))
    for document_id in done.failed:
        if as_json:
            write_json_line({"failed": document_id})
        else:
            say(cell(f"not repaired: {document_id}", "red"))


def _show_lifecycle(changed: LifecycleResult, as_json: bool) -> None:
    for action, count in changed.done.items():
        if as_json:
            write_json_line({action.value: count})
        else:
            say(f"{action.value.replace('_', ' ')}: {count} collection(s)")
    for name in changed.failed:
        if as_json:
            write_json_line({"failed": name})
        else:
            say(cell(f"not processed: collection {name}", "red"))


def _show_backfill(what: str, done: BackfillResult, as_json: bool) -> None:
    if as_json:
        if done.made or done.left:
            write_json_line({f"{what.replace(' ', '_')}_made": done.made, "documents_without": done.left})
        for document_id, cause in done.failed.items():
            write_json_line({"failed": document_id, "cause": cause})
        return
    if done.made:
        say(f"{what} made: {done.made} document(s)")
    for document_id, cause in done.failed.items():
        say(cell(f"no {what}: {document_id}: {cause}", "red"))
    if done.left:
        say(f"{done.left} document(s) have no {what} yet; the next round makes more")


def _show_too_young(too_young: TooYoung, as_json: bool) -> None:
    """No fault, and so no reason to exit with 1: objects of uploads under way look the same."""
    if not too_young.objects:
        return
    judged_in_s = math.ceil(too_young.judged_in_s)
    if as_json:
        write_json_line({"too_young": too_young.objects, "judged_in_s": judged_in_s})
    else:
        say(
            f"{too_young.objects} object(s) without a record are too young to judge: an upload may be under way;",
            f"look again in {judged_in_s} s",
        )


def _show_not_judged(not_judged: NotJudged, as_json: bool) -> None:
    """A reason to exit with 1: the stores may differ there."""
    for what, cause in not_judged.causes.items():
        if as_json:
            write_json_line({"not_judged": what, "cause": cause})
        else:
            say(cell(f"not judged: {what}: {cause}", "red"))


def _as_json(mismatch: Mismatch) -> dict[str, str | int | bool]:
    return {
        "store": mismatch.store,
        "kind": mismatch.kind.value,
        "document_id": mismatch.document_id,
        "collection": mismatch.collection,
        "what": mismatch.what,
        "count": mismatch.count,
        "repaired": mismatch.is_repaired,
    }


def _show_mismatches(mismatches: Sequence[Mismatch]) -> None:
    if not mismatches:
        say("nothing found")
        return
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("store", "kind", "collection"):
        table.add_column(column, overflow="fold")
    table.add_column("document", no_wrap=True)
    table.add_column("what", overflow="fold")
    table.add_column("count", justify="right")
    table.add_column("", no_wrap=True)
    for mismatch in mismatches:
        table.add_row(
            mismatch.store,
            mismatch.kind.value,
            cell(mismatch.collection),
            cell(mismatch.document_id, "dim"),
            cell(mismatch.what),
            str(mismatch.count),
            cell("to be made again" if mismatch.is_remade else "deleted", "green") if mismatch.is_repaired else "",
        )
    stdout().print(table)
    left = [one for one in mismatches if one.kind is not MismatchKind.ORPHAN and not one.is_repaired]
    if any(not one.is_remade for one in left):
        say("of a ready document that lacks something:", REMEDY)
    if any(one.is_remade for one in left):
        say("of a ready document that lacks sign codes or terms:", REMAKE)
