"""`collect demo`: drawn pictures, a project and its plan, to try the pages at once.

DIR/pictures/<class>/    to be annotated        DIR/val/<class>/    held out        DIR/project/
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from data_prep.collect.config import Config
from data_prep.collect.plan import PlanOptions, plan
from data_prep.collect.project import Project, open_project
from data_prep.collect.setup_project import initialise
from data_prep.collect.tasks import PageRule
from data_prep.demo.drawing import SHAPES, TEXTURES, draw_scene
from luab_jax.io.atomic import atomic_file
from luab_jax.io.console import Progress

_PER_CLASS, _VAL_PER_CLASS, _SIDES = 12, 3, (200, 260, 324)
_ORIENTATION, _TURNED_RIGHT = 0x0112, 6
"""EXIF: a viewer turns the stored pixels by 90 degrees to the right."""
_PAGE = PageRule(page_size=12, positive=1, negative=2, distractors=2, reserve=1)
_GLOSSES = {"mug": "a cup with a handle", "key": "what opens a lock", "crescent": "the shape of a young moon"}


def draw(folder: Path, seed: int, per_class: int) -> None:
    """Class folders of pictures in several sizes and shapes; a picture that is there is not drawn again.

    The first of each class is stored on its side with an EXIF orientation that says so, as cameras do.
    """
    wanted = [(label, k) for label in range(len(SHAPES)) for k in range(per_class)]
    with Progress(f"draw {folder.name}", len(wanted), every_s=5.0) as progress:
        for label, k in wanted:
            path = folder / SHAPES[label] / f"{SHAPES[label]}_{k:02d}.jpg"
            if not path.is_file():
                with atomic_file(path, make_folder=True, sync=False) as temporary:
                    temporary.write_bytes(_picture(seed, label, k))
            progress.advance(1)


def _picture(seed: int, label: int, k: int) -> bytes:
    rng = np.random.default_rng([seed, label, k])
    side = int(rng.choice(_SIDES))
    scene = draw_scene(rng, label=label, background=int(rng.integers(len(TEXTURES))), side=side)
    image = Image.fromarray(scene.image).resize((side, side if k % 3 else int(side * 0.75)))
    exif = Image.Exif()
    if k == 0:
        image = image.transpose(Image.Transpose.ROTATE_90)
        exif[_ORIENTATION] = _TURNED_RIGHT
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=92, exif=exif)
    return buffer.getvalue()


def make(folder: Path, seed: int) -> tuple[Project, str]:
    """The project, and the owner's password where it was made now."""
    where = folder / "project"
    if (where / "project.toml").is_file():
        return open_project(where), ""
    pictures = folder / "pictures"
    draw(pictures, seed, _PER_CLASS)
    draw(folder / "val", seed + 1, _VAL_PER_CLASS)
    classes = folder / "classes.txt"
    with atomic_file(classes) as temporary:
        lines = (f"{name}\t{name}\t{_GLOSSES.get(name, '')}\n" for name in SHAPES)
        temporary.write_text("".join(lines), encoding="utf-8")
    config = Config(
        title="Drawn shapes",
        task="imagenet",
        images=str(pictures),
        classes="own",
        instructions=("These pictures were drawn for a try of the page. Nothing that you do leaves this machine.",),
    )
    project, password = initialise(where, config, class_file=classes)
    with project.open_store() as store:
        plan(project, store, PlanOptions(overlap=2, rule=_PAGE, pages_per_hit=config.pages_per_hit))
    return project, password
