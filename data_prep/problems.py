"""What can be wrong with raw data: fixed phrases, under which preparation counts and lists it."""

from __future__ import annotations

import enum

from luab_jax.data.dataset import Skipped


class Reason(enum.StrEnum):
    """Why an input is not in the shards, or not as a whole. The phrase is the key in a manifest's counts."""

    # The image is skipped.
    IMAGE_UNREADABLE = "image file cannot be opened"
    IMAGE_EMPTY = "image file is empty"
    IMAGE_FORMAT = "not a JPEG or PNG image"
    IMAGE_KIND = "JPEG of a kind that is not read"
    IMAGE_TRUNCATED = "image is cut off or damaged"
    VIDEO = "video cannot be read, or has other frames"
    IMAGE_TOO_LARGE = "image is too large"
    IMAGE_MISSING = "image of the instances file is missing"
    IMAGE_ENTRY = "image entry of the instances file is invalid"
    IMAGE_LABEL = "image without a label in --val_labels"
    IMAGE_ELSEWHERE = "image outside of the class folders"
    IMAGE_OTHER_FORMAT = "image of a format that is not read"
    IMAGE_WITHOUT_ENTRY = "image that the instances file does not name"
    NAME_NOT_UTF8 = "file name is not UTF-8"
    # The file or folder is not read.
    FILE_UNUSED = "file that is not used"
    FOLDER_UNUSED = "folder of images that is not used"
    NOT_A_FILE = "broken link, or neither file nor folder"
    FOLDER_UNREADABLE = "folder cannot be listed"
    ARCHIVE_NAME = "archive member with an absolute or `..` name"
    ARCHIVE_LINK = "archive member is a link"
    # The image is kept without this byproduct.
    XML_UNREADABLE = "byproduct file is unreadable"
    XML_OTHER_IMAGE = "byproduct names another image"
    XML_SHARED = "several images share one byproduct name"
    RECORD_UNREADABLE = "byproduct record is unreadable"
    RECORD_WITHOUT_ID = "byproduct record without image_id"
    # Nothing to keep it with.
    XML_ORPHAN = "byproduct without image"
    XML_FOLDER = "folder of byproducts without images"
    BOX_ORPHAN = "box without image"
    BOX_FOLDER = "folder of boxes without images"
    BOX_SHARED = "several images share one name among the boxes"
    LABEL_ORPHAN = "label without image"
    ROW_ORPHAN = "row of the table without image"
    # The byproduct is kept without this part of it.
    SELECTED = "`selected` is missing or neither True nor False"
    CLICK = "invalid click"
    NO_CLICK = "selected without a usable click"
    TRACE_POINT = "invalid trace point"
    HOVER = "invalid hover record"
    TIME = "invalid time"
    NUMBER = "invalid number"
    BOX = "invalid box"
    BOX_FILE = "box file is unreadable"
    CROWD = "invalid iscrowd"
    FOREGROUND_MASK = "foreground mask is unreadable"
    ACTION = "invalid action"
    ACTION_KIND = "unknown kind of action"
    ACTION_POINT = "action without a valid point"
    ICON_UNKNOWN = "unknown icon"
    ICON_NO_CLASS = "icon of no class in the class list"
    CATEGORY_VIEW = "invalid category view"
    # The image is kept without this object of the instances file.
    OBJECT_UNREADABLE = "instance is unreadable"
    OBJECT_NO_CLASS = "instance of no class in the class list"
    OBJECT_WITHOUT_IMAGE = "instance without image"
    # The image is not in a suite that is made of a prepared split.
    NO_LABEL = "image without a label"
    NO_OBJECT = "no object to cut out"
    OBJECT_OUTSIDE = "object lies outside of the image"
    OBJECT_TOO_LARGE = "object leaves too little background"
    NO_PARTNER = "no other image of its class to take a background from"
    OBJECT_MASK = "invalid mask"
    OTHER_SIZE = "instances file states another image size"
    # Kept as it is.
    MOVE_WITHOUT_ADD = "icon moved or removed before it was added"
    TRACE_BACKWARDS = "trace times run backwards"


MENDABLE = frozenset(
    (
        *(Reason.IMAGE_UNREADABLE, Reason.IMAGE_EMPTY, Reason.IMAGE_FORMAT, Reason.IMAGE_KIND, Reason.IMAGE_TRUNCATED),
        *(Reason.VIDEO, Reason.XML_UNREADABLE, Reason.BOX_FILE, Reason.FOREGROUND_MASK),
    )
)
"""Of files that may be replaced by a whole copy of the same size, which no listing tells from the damaged one."""


class Problems:
    """The problems of one file: how often each occurred, and how it looked the first time."""

    def __init__(self) -> None:
        self._found: dict[Reason, tuple[int, str]] = {}

    def add(self, reason: Reason, detail: str = "") -> None:
        count, first = self._found.get(reason, (0, detail))
        self._found[reason] = (count + 1, first)

    def __contains__(self, reason: Reason) -> bool:
        return reason in self._found

    def listed(self, file: str) -> tuple[Skipped, ...]:
        """One entry per reason."""
        return tuple(
            Skipped(file=file, reason=str(reason), detail=first if count == 1 else f"{count} times, first: {first}")
            for reason, (count, first) in self._found.items()
        )
