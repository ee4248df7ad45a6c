"""The classes of COCO and the icons of its annotation tool, as explicit tables.

`ICON_NAMES` is the list of the official loader (naver-ai/NeglectedFreeLunch, coco_dataloader.ipynb,
`COCO_CLASS_NAMES`): position + 1 is the COCO category id. `UNUSED_IDS` are the 11 of the 91 categories for which COCO
released no instances (`categories` of instances_train2014.json has the other 80; the annotation tool,
naver-ai/coco-annotation-tool, shows icons of these 80 only). A label is the position of a category among the 80, in the
order of category ids: `cat2cat` of the official loader.
"""

from __future__ import annotations

from luab_jax.data.class_lists import ClassList

ICON_NAMES = (
    *("person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat"),  # 1-9
    *("traffic light", "fire hydrant", "street sign", "stop sign", "parking meter", "bench"),  # 10-15
    *("bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe"),  # 16-25
    *("hat", "backpack", "umbrella", "shoe", "eye glasses", "handbag", "tie", "suitcase"),  # 26-33
    *("frisbee", "skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove"),  # 34-40
    *("skateboard", "surfboard", "tennis racket"),  # 41-43
    *("bottle", "plate", "wine glass", "cup", "fork", "knife", "spoon", "bowl"),  # 44-51
    *("banana", "apple", "sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake"),  # 52-61
    *("chair", "couch", "potted plant", "bed", "mirror", "dining table", "window", "desk", "toilet", "door"),  # 62-71
    *("tv", "laptop", "mouse", "remote", "keyboard", "cell phone"),  # 72-77
    *("microwave", "oven", "toaster", "sink", "refrigerator", "blender"),  # 78-83
    *("book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush", "hair brush"),  # 84-91
)
UNUSED_IDS = frozenset((12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91))

CATEGORY_IDS = {name: i for i, name in enumerate(ICON_NAMES, 1) if i not in UNUSED_IDS}
"""Class name to COCO category id, in the order of ids: the 80 classes."""


def coco() -> ClassList:
    """The 80 classes; their ids are COCO's names."""
    names = tuple(CATEGORY_IDS)
    return ClassList(names, names)
