"""ImageNet-P: videos in which a perturbation grows or moves frame by frame, each stored as one strip of its frames.

A record is a video: its frames of 224 px below each other as PNG, since what is asked is whether a later frame of the
same video is answered otherwise. Folders and numbers of frames are those of hendrycks/robustness,
ImageNet-P/create_p/make_imagenet_p.py; the videos are decoded by OpenCV, as in its ImageNet-P/video_loader.py.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import UInt8

from data_prep.datasets.leftovers import note_files
from data_prep.datasets.listing import Item, Listing
from data_prep.own_suites.encoding import encode_image
from data_prep.problems import Reason
from data_prep.sources.tree import Reader, Source, walk
from data_prep.writing.shards import Outcome
from luab_jax.byproducts.records import ImageRecord
from luab_jax.data.class_lists import imagenet
from luab_jax.data.label_tables import PERTURBATION_SIDE, PERTURBATIONS
from luab_jax.errors import DataError
from luab_jax.io.console import watched

NUM_VIDEOS = 50_000
"""Of each perturbation: one for each validation image."""
_SUFFIX = ".mp4"
_SIZE = (PERTURBATION_SIDE, PERTURBATION_SIDE)


def list_videos(source: Source, split: str | None) -> dict[str, Listing]:
    """The videos by perturbation, which is the split; raises `DataError` where there are none."""
    if split not in (None, *PERTURBATIONS):
        raise DataError(f"--split={split}: imagenet_p has the splits {', '.join(PERTURBATIONS)}")
    listings: dict[str, Listing] = {}
    label_of, others = imagenet().label_of(), Listing()
    for folder, files in watched(walk(source), f"list {source.name}", unit="files", size=lambda pair: len(pair[1])):
        kind, _, wnid = "/".join((source.name, *folder.split("/"))).rpartition("/")
        kind = kind.rpartition("/")[2]
        if kind not in PERTURBATIONS or wnid not in label_of:
            note_files(others, folder, (file.name for file in files))
            continue
        if split not in (None, kind):
            continue
        listing = listings.setdefault(kind, Listing())
        note_files(listing, folder, (file.name for file in files), frozenset((_SUFFIX,)))
        listing.items += [
            Item(f"{wnid}/{file.name}", label_of[wnid], file.span, group=kind, path=f"{folder}/{file.name}")
            for file in files
            if file.name.lower().endswith(_SUFFIX)
        ]
    listings = {kind: listing for kind, listing in listings.items() if listing.items}
    if not listings:
        wanted = f" of {split}" if split else ""
        raise DataError(f"{source.place}: holds no video{wanted} of imagenet_p as <perturbation>/<wnid>/<image>.mp4")
    for listing in listings.values():
        listing.problems += [*source.problems, *others.problems]
    return listings


@dataclass(frozen=True, slots=True)
class Strip:
    """Reads one listed video as a strip of its frames."""

    read: Reader

    def __call__(self, item: Item) -> Outcome:
        try:
            frames = frames_of(self.read(item.path, item.image), PERTURBATIONS[item.group])
            check_frames(frames, item.group)
        except (OSError, DataError) as e:
            return Outcome.left_out(f"{item.group}/{item.file_name}", Reason.VIDEO, str(e))
        strip = np.concatenate(frames)
        record = ImageRecord(
            file_name=item.file_name,
            image=encode_image(strip, quality=None),
            height=strip.shape[0],
            width=strip.shape[1],
            label=item.label,
            group=item.group,
        )
        return Outcome(record, Counter(images_found=1, images=1, frames=len(frames)), ())


def frames_of(video: bytes, limit: int) -> list[UInt8[np.ndarray, "h w 3"]]:
    """The frames that can be decoded, in RGB, up to the first that a video of `limit` frames would not have.

    Which is the one after `limit`, or one of another size: a film of an hour does not fill the memory. OpenCV reads
    files only, so that a temporary one is written.
    """
    with tempfile.NamedTemporaryFile(suffix=_SUFFIX) as file:
        file.write(video)
        file.flush()
        capture = cv2.VideoCapture(file.name)
        try:
            frames: list[np.ndarray] = []
            while len(frames) <= limit and (found := capture.read())[0]:
                frames.append(np.ascontiguousarray(found[1][..., ::-1]))
                if frames[-1].shape[:2] != _SIZE:
                    break
        finally:
            capture.release()
    return frames


def check_frames(frames: list[UInt8[np.ndarray, "h w 3"]], kind: str) -> None:
    """Raises `DataError` for another number or size of frames than the perturbation's."""
    if sizes := [frame.shape[:2] for frame in frames if frame.shape[:2] != _SIZE]:
        height, width = sizes[0]
        raise DataError(f"frames of {width}x{height} pixels, those of imagenet_p have {PERTURBATION_SIDE}")
    if len(frames) != PERTURBATIONS[kind]:
        found = f"more than {PERTURBATIONS[kind]}" if len(frames) > PERTURBATIONS[kind] else f"{len(frames)}"
        raise DataError(f"{found} frames can be read, a video of {kind} has {PERTURBATIONS[kind]}")
