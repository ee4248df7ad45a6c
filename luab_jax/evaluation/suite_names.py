"""The names of `SUITES` in their order, for --help: that table imports jax and all that evaluates, for seconds."""

ALL = (
    *("imagenet", "imagenet_real", "cocc", "byproduct"),
    *(
        "imagenet_v2",
        "imagenet_a",
        "imagenet_r",
        "imagenet_c",
        "imagenet_o",
        "imagenet_o_knn",
        "imagenet_sketch",
        "objectnet",
    ),
    *("si_size", "si_location", "si_rotation", "backgrounds_challenge", "bgc_accuracy", "localisation"),
    *("coco", "coco_context"),
    *("demo_backgrounds", "demo_size", "demo_position", "demo_rotation", "demo_corruptions"),
    *("cue_conflict", "imagenet_x", "imagenet_d", "imagenet_w", "imagenet_w_generated"),
    *("hard_imagenet", "counteranimal", "imagenet_hard", "imagenet_c_bar", "imagenet_3dcc"),
    *("effective_robustness", "own_backgrounds", "own_backgrounds_of_sets", "own_bgc_accuracy", "own_corruptions"),
    *("own_occlusions", "own_size", "own_position", "own_rotation"),
    *(f"own_{kind}_of_sets" for kind in ("corruptions", "occlusions", "size", "position", "rotation")),
    "own_groups",
)
"""What --suites=all evaluates."""
BY_NAME_ONLY = ("imagenet_c_generated", "imagenet_p")
