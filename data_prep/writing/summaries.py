"""What a preparation tells of itself when it is done: a few lines on what was kept, what was not, and where it is."""

from __future__ import annotations

from data_prep.datasets.suites import NAMES as PUBLIC_SUITES
from luab_jax.data.dataset import DECODE_CHECK, Manifest
from luab_jax.io.console import format_seconds

Rows = list[tuple[str, str]]


def summary_rows(manifest: Manifest) -> Rows:
    """What was found beside single-label images."""
    counts = manifest.counts
    absent, boxes = counts.get("classes_without_images", 0), counts.get("images_with_box", 0)
    rows = _byproduct_rows(manifest)
    if boxes or manifest.source.get("boxes") is not None:
        rows.append(("with a box", f"{boxes:,}"))
    if masks := counts.get("images_with_mask", 0):
        rows.append(("with a mask", f"{masks:,}"))
    if ignored := counts.get("other_files_ignored", 0):
        rows.append(("other files, not used", f"{ignored:,}"))
    if left_out := counts.get("images_of_other_folders_left_out", 0):
        rows.append(("in other folders, left out", f"{left_out:,}"))
    if absent:
        rows.append(("classes without images", f"{absent:,} of {len(manifest.classes):,}"))
    return rows


def _byproduct_rows(manifest: Manifest) -> Rows:
    """That none were given is said too, except of a public suite, which has none."""
    counts = manifest.counts
    if manifest.source.get("byproducts") is None:
        return [] if manifest.dataset in PUBLIC_SUITES else [("byproducts", "none given")]
    selected = counts.get("images_with_selected_byproduct", 0)
    unused = counts.get("byproduct_folders_without_images", 0)
    return [
        ("with a selected byproduct", f"{selected:,} ({selected / max(manifest.num_records, 1):.1%})"),
        ("with a usable click", f"{counts.get('images_with_usable_click', 0):,}"),
        ("without byproduct file", f"{counts.get('images_without_byproduct_file', 0):,}"),
        *([("byproduct folders unused", f"{unused:,}, no images of these classes")] if unused else []),
    ]


def coco_summary_rows(manifest: Manifest) -> Rows:
    """What was found beside COCO's images; pairs are those of images with a record."""
    counts = manifest.counts
    pairs, pointed = counts.get("class_image_pairs", 0), counts.get("class_image_pairs_with_point", 0)
    rows = [
        ("with a class", f"{counts.get('images_with_class', 0):,}"),
        ("objects", f"{counts.get('objects', 0):,}, {counts.get('crowd_regions', 0):,} of them crowds"),
        ("masks", f"{counts.get('masks', 0):,}"),
    ]
    if ignored := counts.get("other_files_ignored", 0):
        rows.append(("other files, not used", f"{ignored:,}"))
    if unknown := counts.get("images_without_stated_size", 0):
        rows.append(("size not stated", f"{unknown:,}, taken from the image files"))
    if manifest.source["byproducts"] is None:
        return rows
    return [
        *rows,
        ("without byproduct record", f"{counts.get('images_without_byproduct_record', 0):,}"),
        ("with several records", f"{counts.get('images_with_several_showings', 0):,}"),
        ("class-picture pairs", f"{pairs:,}, {pointed:,} ({pointed / max(pairs, 1):.1%}) with a point"),
        ("points of absent classes", f"{counts.get('points_of_absent_classes', 0):,}"),
    ]


def summary(manifest: Manifest, found: Rows, out: object, seconds: float) -> str:
    """A few lines on what was kept, what was not, and where it is."""
    counts = manifest.counts
    images = manifest.num_records
    size = sum(shard.num_bytes for shard in manifest.shards)
    rows = [
        *_published(manifest),
        *_stored(manifest),
        *([("images not decoded", "run verify before training")] if DECODE_CHECK in manifest.source else []),
        ("images", f"{images:,}" + (f" of {counts['images_found']:,}" if images < counts["images_found"] else "")),
        *found,
        ("shards", f"{len(manifest.shards):,}, {size / 1e6:,.1f} MB"),
        ("time", f"{format_seconds(seconds)}, {counts['images_found'] / max(seconds, 1e-9):,.0f} images/s"),
        ("where", f"{out}, split {manifest.split!r} of {manifest.dataset!r}, {len(manifest.classes)} classes"),
    ]
    lines = [f"prepared {manifest.split}:"] + [f"  {name:<26} {value}" for name, value in rows]
    reasons: dict[str, list[str]] = {}
    for skipped in manifest.skipped:
        reasons.setdefault(skipped.reason, []).append(skipped.file)
    if reasons:
        lines.append(f"  skipped or damaged, by reason (all in {manifest.split}.manifest.json):")
        lines += [
            f"    {counts[reason]:>6,}  {reason}, such as {_shown(files[0])}" for reason, files in reasons.items()
        ]
    return "\n".join(lines)


def _stored(manifest: Manifest) -> Rows:
    if not manifest.stored_smaller:
        return []
    count = manifest.counts.get("images_made_smaller", 0)
    return [("images made smaller", f"{count:,}, to {manifest.stored_smaller}")]


def _shown(name: str) -> str:
    """On one line."""
    return name if name.isprintable() else repr(name)


def _published(manifest: Manifest) -> Rows:
    if manifest.expected_records is None:
        return []
    share = f"{manifest.num_records:,} of {manifest.expected_records:,} published images"
    return [("PARTIAL SET" if manifest.partial else "complete", share)]
