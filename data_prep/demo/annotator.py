"""The demo's annotator, who does not exist: simulated clicks and mouse traces, in the XML of the release."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from data_prep.demo.drawing import Array, Scene

# The click's standard deviation in half box sides: the value that imagenet_ab_mini uses too.
CLICK_SPREAD = 0.582
NO_XML_SHARE, UNSELECTED_SHARE, SECOND_SHOWING_SHARE = 0.05, 0.08, 0.02
TOGGLED_SHARE, EMPTY_TRACE_SHARE = 0.03, 0.04
START_MS = 1_600_000_000_000  # an invented date; later images are shown later

Fields = dict[str, Any]  # one xml element: a value, nested Fields, or a list of repeated Fields


def _trace(rng: np.random.Generator, start: Array, end: Array, start_ms: int) -> list[Fields]:
    """A bowed, unsteady way of the mouse from start to end (fractions), in steps of about 35 ms."""
    num_points = int(rng.integers(6, 22))
    progress = np.linspace(0, 1, num_points) ** 0.8  # fast at first, slower near the goal
    across = np.array([start[1] - end[1], end[0] - start[0]])
    bow = rng.normal(0, 0.15) * np.sin(np.pi * progress)
    points = start + progress[:, None] * (end - start) + bow[:, None] * across
    points[1:-1] += rng.normal(0, 0.012, (num_points - 2, 2))
    times = start_ms + np.cumsum(rng.integers(16, 55, num_points))
    return [_record(point, time) for point, time in zip(points, times, strict=True)]


def _record(point: Array, time_ms: int) -> Fields:
    return {"time": int(time_ms), "x": float(point[0]), "y": float(point[1])}


def _click(rng: np.random.Generator, scene: Scene) -> Array:
    """A simulated click, x, y as fractions: Gaussian around the box centre, cut to the image."""
    assert scene.box is not None, "an image without a shape has nothing to click on"
    x_min, y_min, x_max, y_max = scene.box
    centre = np.array([x_min + x_max, y_min + y_max]) / 2
    half = np.array([x_max - x_min, y_max - y_min]) / 2
    return np.clip(centre + CLICK_SPREAD * half * rng.standard_normal(2), 0, 1)


def _rim_point(rng: np.random.Generator) -> Array:
    along, side = rng.random(), rng.integers(4)
    return np.array([(along, 0.0), (along, 1.0), (0.0, along), (1.0, along)][side])


def simulate_showing(
    rng: np.random.Generator, scene: Scene, *, image_id: str, start_ms: int, always_selected: bool
) -> Fields:
    """One showing of the image to a simulated annotator: the release's <metadata>, keys in order.

    Coordinates are fractions of the displayed image (x right, y down), times ms since 1970.
    """
    selected = always_selected or rng.random() >= UNSELECTED_SHARE
    toggled, no_trace = rng.random() < TOGGLED_SHARE, rng.random() < EMPTY_TRACE_SHARE
    click = _click(rng, scene)
    trace = _trace(rng, _rim_point(rng), click, start_ms)
    now_ms = trace[-1]["time"] + int(rng.integers(60, 400))
    clicks = [_record(click, now_ms)] if selected or toggled else []
    if selected and toggled:  # taken back, then clicked again; the mouse is not tracked in between
        second = _click(rng, scene)
        trace += _trace(rng, click, second, now_ms + int(rng.integers(300, 1500)))
        clicks.append(_record(second, trace[-1]["time"] + int(rng.integers(60, 400))))
    if no_trace:
        trace = []
    end_ms = (clicks or trace or [{"time": now_ms}])[-1]["time"]
    enter_ms = trace[0]["time"] if trace else start_ms
    displayed, side = int(rng.integers(200, 341)), scene.image.shape[0]
    worker = int(rng.integers(40))
    return {
        "assignment_id": f"SIMULATED_ASSIGNMENT_{worker:02d}",
        "estimateTime": end_ms - enter_ms if trace else 0,
        "hit_id": f"SIMULATED_HIT_{worker:02d}",
        "hit_submit_time": end_ms // 1000 + 60,
        "hoveredCount": 1,
        "hoveredRecord": [
            {"action": "enter", "time": enter_ms},
            {"action": "leave", "time": end_ms + int(rng.integers(100, 900))},
        ],
        "imageHeight": displayed,
        "imageID": image_id,
        "imagePosition": {"x": int(rng.integers(28, 1400)), "y": int(rng.integers(200, 3100))},
        "imageWidth": displayed,
        "image_idx": int(rng.integers(48)),
        "imagenet_hit_id": f"simulated_{worker:02d}",
        "mouseTracking": trace,
        "originalImageHeight": side,
        "originalImageWidth": side,
        "page_idx": int(rng.integers(10)),
        "selected": selected,
        "selectedCount": len(clicks),
        "selectedRecord": clicks,
        "worker_id": f"SIMULATED_{worker:02d}",
    }


def _xml_lines(tag: str, value: Any, indent: str = "") -> Iterator[str]:
    """One element per entry of a list; an empty list is the text None, as in the release."""
    if isinstance(value, list) and value:
        for entry in value:
            yield from _xml_lines(tag, entry, indent)
    elif isinstance(value, dict):
        yield f"{indent}<{tag}>"
        for name, inner in value.items():
            yield from _xml_lines(name, inner, indent + "  ")
        yield f"{indent}</{tag}>"
    else:
        yield f"{indent}<{tag}>{None if value == [] else value}</{tag}>"


def annotation_xml(scene: Scene, class_id: str, name: str, showings: list[Fields]) -> str:
    """The xml of one image: the true box as an ILSVRC <object>, then one <metadata> per showing."""
    assert scene.box is not None
    height, width = scene.mask.shape
    x_min, y_min, x_max, y_max = scene.box
    fields = {
        "folder": class_id,
        "filename": name,
        "source": {"database": "luab_jax demo, drawn and simulated"},
        "size": {"width": width, "height": height, "depth": 3},
        "segmented": 0,
        "object": {
            "name": class_id,
            "pose": "Unspecified",
            "truncated": 0,
            "difficult": 0,
            "bndbox": {
                "xmin": round(x_min * width),
                "ymin": round(y_min * height),
                "xmax": round(x_max * width),
                "ymax": round(y_max * height),
            },
        },
        "metadata": showings,
    }
    return "\n".join(_xml_lines("annotation", fields)) + "\n"
