"""A published count of images is the same wherever it stands: preparation, TFDS's directories, preflight, the paper."""

from __future__ import annotations

from data_prep.datasets import published
from data_prep.datasets.suites import COCO_PUBLISHED, SUITES
from luab_jax.config import Task
from luab_jax.data import tfds_directory
from luab_jax.preflight import experiment
from luab_jax.report.paper import COLUMNS

PREPARED = {
    **{suite.name: suite.published for suite in SUITES.values()},
    "imagenet": published._IMAGENET,
    "coco": COCO_PUBLISHED,
    "coco/2017": published._COCO_2017,
}
TFDS_NAMES = {"imagenet2012": "imagenet", "imagenet2012_real": "imagenet", "coco/2014": "coco", "siscore": "si_score"}
TFDS_SPLITS = {"validation": "val"}


def test_of_tfds_are_those_of_the_preparation() -> None:
    checked = 0
    for name, splits in tfds_directory._PUBLISHED.items():
        dataset, _, config = name.partition("/")
        prepared = PREPARED.get(name) or PREPARED[TFDS_NAMES.get(name) or TFDS_NAMES.get(dataset) or dataset]
        for split, count in splits.items():
            names = [config, TFDS_SPLITS.get(split, split), *prepared] if split != "train" else ["train"]
            found = [prepared[name] for name in names if name in prepared]
            assert found[0] == count, (name, split)
            checked += 1
    assert checked == sum(map(len, tfds_directory._PUBLISHED.values())) > 10


def test_of_the_paper_are_those_of_the_preparation() -> None:
    of_column = {
        "IN-1K": ("imagenet", "val"),
        "IN-V2": ("imagenet_v2", "matched_frequency"),
        "IN-C": ("imagenet_c", "test"),
        "IN-A": ("imagenet_a", "test"),
        "IN-R": ("imagenet_r", "test"),
        "IN-Sketch": ("imagenet_sketch", "test"),
        "ObjNet": ("objectnet", "test"),
        "SI-size": ("si_score", "size"),
        "SI-loc": ("si_score", "location"),
        "SI-rot": ("si_score", "rotation"),
        "Cocc": ("imagenet", "val"),
        "mAP": ("coco", "val"),
        "BGC-gap": ("backgrounds_challenge", "original"),
        "BGC-acc": ("backgrounds_challenge", "original"),
        **dict.fromkeys(("V_min", "V_avg"), ("coco", "val")),
    }
    of_paper = {column.name: column.n for column in COLUMNS}
    for column, (suite, split) in of_column.items():
        assert of_paper[column] == PREPARED[suite][split], column
    # ImageNet-O is scored beside 10,000 images of ImageNet; ReaL leaves out those without a label.
    assert of_paper.keys() - of_column.keys() == {"IN-O", "IN-ReaL"}
    assert of_paper["IN-O"] == PREPARED["imagenet_o"]["test"] + 10_000


def test_of_preflight_are_those_of_tfds() -> None:
    counts = {task: count for task, (_, _, count, _) in experiment._PUBLISHED.items()}
    assert counts[Task.SINGLE_LABEL] == tfds_directory._PUBLISHED["imagenet2012"]["train"]
    assert counts[Task.MULTI_LABEL] == COCO_PUBLISHED["train"]
