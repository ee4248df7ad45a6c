"""`collect status`: the owner's page as text."""

from __future__ import annotations

import json
from typing import Any

from data_prep.collect import reports
from data_prep.collect.project import Project, now_ms
from data_prep.collect.store import Store, get_meta
from luab_jax.io.console import format_seconds

_WORST = 20


def facts(project: Project, store: Store) -> dict[str, Any]:
    """Everything that the owner's page shows, as JSON."""
    names = {info.id: info.name for info in project.classes}
    return {
        "title": project.config.title,
        "task": project.config.task,
        "database": store.engine.name,
        "paused": store.read(lambda tx: get_meta(tx, "paused")) == "1",
        "progress": reports.progress(store, now_ms()),
        "simulated": reports.simulated(store),
        "annotators": reports.annotators(store, names),
        "agreement": reports.agreement(store, names),
        "classes": reports.class_progress(store, names),
    }


def text(found: dict[str, Any]) -> str:
    """A screenful."""
    progress, agreement, people = found["progress"], found["agreement"], found["annotators"]
    pages = progress["pages"]
    if not pages["total"]:
        return f"{found['title']} ({found['task']}, {found['database']}): no pages yet; next: collect plan"
    share = pages["done"] / pages["total"]
    lines = [
        f"{found['title']} ({found['task']}, {found['database']}){', paused' if found['paused'] else ''}",
        f"pages        {pages['done']:,} of {pages['total']:,} done ({share:.1%}), {pages['leased']:,} in work,"
        f" {progress['surplus']:,} surplus",
        f"pictures     {progress['pictures_done']:,} shown and submitted",
        f"annotators   {progress['annotators']['all']:,}, {progress['annotators']['active']:,} in the last 10 minutes",
        f"time         {_time(progress['ms_per_page'])} a page; {_eta(progress['eta_ms'])}",
        f"log          {progress['events']:,} events, {progress['bytes'] / 1e6:,.1f} MB as sent;"
        f" {progress['refused_batches']:,} batches refused",
        f"agreement    Krippendorff {_number(agreement['krippendorff'])}, Fleiss {_number(agreement['fleiss'])}, mean"
        f" Cohen {_number(agreement['cohen']['mean'])} over {agreement['units']:,} judgements of two or more",
        f"clicks       median distance of two annotators {_number(agreement['click_distance']['median'])} of the"
        f" picture ({agreement['click_distance']['n']:,} pairs)",
    ]
    if found["simulated"]["annotators"]:
        made_up = found["simulated"]
        lines.append(
            f"simulated    {made_up['annotators']:,} of the annotators, {made_up['showings']:,} pages submitted"
        )
    if progress["broken"]:
        lines.append(f"pictures that cannot be shown: {len(progress['broken'])}")
        lines += [f"  {entry['picture']}: {entry['reason']}" for entry in progress["broken"][:5]]
    if people:
        lines.append("annotator    pages  controls   a page  never hovered  agreement  state")
    worst = sorted(people, key=lambda a: (a["control_score"] is None, a["control_score"] or 0.0, a["worker"]))[:_WORST]
    lines += [
        f"{a['worker']:<11}{a['pages']:>7}{_percent(a['control_score']):>10}{_time(a['median_page_ms']):>9}"
        f"{_percent(a['never_hovered']):>15}{_percent(a['agreement']):>11}  {a['state']} {a['reason']}".rstrip()
        for a in worst
    ]
    if len(people) > len(worst):
        lines.append(f"... and {len(people) - len(worst)} more (--json lists all)")
    return "\n".join(lines)


def as_json(found: dict[str, Any]) -> str:
    return json.dumps(found, indent=2, ensure_ascii=False)


def _time(ms: float | None) -> str:
    return "-" if ms is None else format_seconds(ms / 1000)


def _eta(ms: float | None) -> str:
    return (
        "no pace yet" if ms is None else "all done" if not ms else f"at this pace done in {format_seconds(ms / 1000)}"
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"
