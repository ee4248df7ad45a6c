"""The results of the GPU kit as tables, also of a run that was cut short.

python -m benchmarks.gpu.summary --out=DIR
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks.gpu.record import parser, read

Line = dict[str, Any]


def of_step(lines: Iterable[Line], *steps: str) -> list[Line]:
    return [line for line in lines if line["step"] in steps and "error" not in line]


def table(rows: Sequence[Sequence[str]]) -> str:
    """The first column to the left, the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    )


def machine(lines: list[Line]) -> str:
    found = of_step(lines, "environment")
    text = [f"{key}: {line[key]}" for line in found for key in ("card", "backend", "packages") if key in line]
    text += [
        f"{line['what']}: {line[key]:.1f} {key}" for line in found for key in ("tflops", "gb_per_s") if key in line
    ]
    text += [f"{line['what']}: {line['output']:.1e}, {line['d_key']:.1e}" for line in found if "d_key" in line]
    return "\n".join(text)


def training(lines: list[Line]) -> str:
    """The last measurement of each model and variant, since that taken in turns follows that taken alone."""
    last = {(line["model"], line["variant"]): line for line in of_step(lines, "training", "peer") if "variant" in line}
    rows = [["", "batch", "ms", "images/s", "MFU", "GB", "compiled s", "x LUAB's time"]]
    for (model, variant), line in sorted(last.items(), key=lambda item: list(last).index(item[0])):
        gb = line.get("gb_peak") or line.get("gb_by_compiler")
        ratio = line.get("ratio_to_luab")
        if ratio is None and (ours := last.get((model, "LUAB"))):
            ratio = line["ms"] / line["batch"] / (ours["ms"] / ours["batch"])
        rows.append(
            [
                f"{model}, {variant}" + ("" if line["finite"] else " (NOT FINITE)"),
                str(line["batch"]),
                f"{line['ms']:.1f}",
                f"{line['images_per_s']:.0f}",
                f"{line['mfu']:.1%}" if line.get("mfu") else "",
                f"{gb:.1f}" if gb else "",
                f"{line['compile_s']:.0f}",
                f"{ratio:.3f}" if ratio else "",
            ]
        )
    return table(rows)


def profiles(lines: list[Line]) -> str:
    text = []
    for line in of_step(lines, "training"):
        if "kernels" not in line:
            continue
        text.append(f"{line['model']}: busy {line['busy_ms']:.1f} of {line['span_ms']:.1f} ms per step")
        text.append("  " + ", ".join(f"{kind} {ms:.2f}" for kind, ms in line["by_kind"].items()))
        for kernel in line["kernels"][:10]:
            name = f"{kernel['name'][:60]} | {kernel['instruction']}"
            text.append(f"  {kernel['milliseconds']:8.3f} ms  x{kernel['count']:<5.1f} {name}")
    return "\n".join(text)


def rates(lines: list[Line], step: str, columns: Sequence[str]) -> str:
    """One row for each result of a step, those numbers of it in columns."""
    rows = [["", *columns]]
    for line in of_step(lines, step):
        rows.append([line["what"], *(_cell(line.get(column)) for column in columns)])
    return table(rows)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.1f}" if isinstance(value, float) else str(value)


def errors(lines: list[Line]) -> str:
    return "\n".join(f"{line['step']}: {line['what']}: {line['error'][:300]}" for line in lines if "error" in line)


def summary(lines: list[Line]) -> str:
    found = {"Machine": machine(lines), "Profiles": profiles(lines), "Not measured": errors(lines)}
    tables = {
        "Loader": rates(lines, "loader", ("images_per_s", "cpu_ms")),
        "nvJPEG": rates(lines, "nvjpeg", ("images_per_s", "cpu_ms")),
        "Evaluation, images/s": rates(lines, "evaluation", ("reading", "predict", "whole", "bounded_by")),
        "Augmentation, ms a batch": rates(lines, "augmentation", ("batch", "ms")),
        "ImageNet-C, severity 3": rates(lines, "corruptions", ("images_per_s", "compile_s")),
        "Study": rates(lines, "study", ("seconds", "ms_one_by_one", "ms_in_one")),
        "Training steps": training(lines),
    }
    parts = {title: text for title, text in found.items() if text} | {
        title: text for title, text in tables.items() if "\n" in text
    }
    return "\n\n".join(f"== {title}\n{text}" for title, text in parts.items())


def main() -> None:
    print(summary(read(parser(__doc__).parse_args().out)))


if __name__ == "__main__":
    main()
