"""`python -m data_prep COMMAND`: raw data in, prepared shards out."""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from data_prep.arguments import read_arguments
from data_prep.collect import commands as collect
from data_prep.datasets.suites import options_of
from data_prep.downscale import DEFAULT_QUALITY, Smaller
from data_prep.own_suites import commands as own_suites
from luab_jax.errors import DataError, ExitCode, StorageError, UserError, options_are_flags
from luab_jax.io import retries, storage
from luab_jax.io.lease import Lease
from luab_jax.io.stdout import quiet_when_unread

if TYPE_CHECKING:
    from data_prep.commands import Job
    from luab_jax.data.class_lists import ClassList

_PATHS = (
    *("from", "images", "instances", "byproducts", "annotations", "boxes", "source"),
    *("real", "val_labels", "factors", "prototypes", "font", "masks", "humans", "classes", "out", "directory"),
)
_SUITE_OPTIONS = (
    *("split", "boxes", "real", "val_labels", "password", "strict", "beam_options"),
    *("factors", "prototypes", "font", "masks", "humans"),
    *("generate", "frost", "corruptions"),
)
_OF_SOME_SUITES = (
    *("instances", "boxes", "real", "val_labels", "password", "factors", "prototypes", "font"),
    *("masks", "humans"),
)


def run(arguments: argparse.Namespace) -> ExitCode:
    """Carries out one command; raises `UserError`."""
    match arguments.command:
        case "imagenet_ab":
            _imagenet_ab(arguments)
        case "coco_ab":
            _coco_ab(arguments)
        case "suite":
            _check_suite_options(arguments)
            (_coco_suite if arguments.name == "coco" else _suite)(arguments)
        case "folder":
            _folder(arguments)
        case "demo":
            from data_prep.commands import demo

            names = ("num_train", "num_val", "side")
            sizes = {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
            demo(
                Path(arguments.out),
                workers=arguments.workers,
                seed=arguments.seed,
                correlation=arguments.correlation,
                **sizes,
            )
        case "inspect":
            _inspect(arguments)
        case "verify":
            from data_prep.verify import verify

            checked = verify(
                storage.place(arguments.directory),
                workers=arguments.workers,
                decode=arguments.decode,
                beam_options=arguments.beam_options,
            )
            print("\n".join([*checked.lines, f"{arguments.directory}: {checked}"]))
            if failures := checked.failures():
                remedy = "delete the manifest of the split, and give the command again that prepared it"
                raise UserError(f"{arguments.directory}: {failures} fail; {remedy}")
            print("every record is as it was written")
        case "collect":
            return collect.run(arguments)
        case name if name in own_suites.FOLDERS:
            own_suites.run(arguments)
    return ExitCode.DONE


def _smaller(arguments: argparse.Namespace) -> Smaller | None:
    if arguments.max_side is None:
        if arguments.quality is not None:
            raise UserError(
                "--quality: images keep their bytes unless --max_side makes them smaller; give both or none"
            )
        return None
    return Smaller(arguments.max_side, arguments.quality or DEFAULT_QUALITY)


def _check_suite_options(arguments: argparse.Namespace) -> None:
    """Refuses an option that this suite would not look at."""
    name, generated = arguments.name, arguments.generate
    if generated and name != "imagenet_c":
        raise UserError(f"--generate makes imagenet_c, not {name}")
    if (arguments.frost or arguments.corruptions) and not generated:
        raise UserError("--frost and --corruptions say how to make imagenet_c: they need --generate")
    used = options_of(name, generated=generated)
    for option in _OF_SOME_SUITES:
        if getattr(arguments, option) is not None and option not in used:
            looked_at = ", but at " + " and ".join(f"--{other}" for other in used) if used else ""
            raise UserError(f"--{option}: suite {name} does not look at it{looked_at}; leave it out")


def _imagenet_ab(arguments: argparse.Namespace) -> None:
    from data_prep.commands import open_inputs, prepare_folders
    from data_prep.sources.scratch_tar import Scratch
    from luab_jax.data.class_lists import read_class_list

    classes, out = read_class_list(arguments.classes), storage.place(arguments.out)
    inputs = open_inputs(
        arguments.images,
        arguments.byproducts,
        arguments.boxes,
        classes,
        out=Scratch(out, arguments.max_unpacked),
        val_labels=arguments.val_labels,
        prefer_flat=arguments.split == "val",
    )
    job = _job(arguments, "imagenet_ab", classes)
    prepare_folders(inputs, job, min_match=arguments.min_match)


def _job(arguments: argparse.Namespace, dataset: str, classes: ClassList) -> Job:
    from data_prep.commands import Job

    return Job(
        out=storage.place(arguments.out),
        split=arguments.split,
        dataset=dataset,
        classes=classes,
        num_shards=arguments.shards,
        workers=arguments.workers,
        strict=arguments.strict,
        beam_options=arguments.beam_options,
        smaller=_smaller(arguments),
        decode=arguments.decode,
        max_unpacked=arguments.max_unpacked,
    )


def _suite(arguments: argparse.Namespace) -> None:
    from data_prep.suite_commands import SuiteOptions, prepare_suite

    options = SuiteOptions(
        num_shards=arguments.shards,
        smaller=_smaller(arguments),
        decode=arguments.decode,
        max_unpacked=arguments.max_unpacked,
        **{name: getattr(arguments, name) for name in _SUITE_OPTIONS},
    )
    prepare_suite(arguments.name, arguments.source, storage.place(arguments.out), options, workers=arguments.workers)


def _coco_suite(arguments: argparse.Namespace) -> None:
    from data_prep.datasets.coco_suite import prepare_coco_suite

    prepare_coco_suite(
        arguments.source,
        arguments.instances,
        storage.place(arguments.out),
        split=arguments.split or "val",
        workers=arguments.workers,
        num_shards=arguments.shards,
        strict=arguments.strict,
        beam_options=arguments.beam_options,
        smaller=_smaller(arguments),
        decode=arguments.decode,
        max_unpacked=arguments.max_unpacked,
    )


def _folder(arguments: argparse.Namespace) -> None:
    from data_prep.annotations.image_tables import Columns
    from data_prep.commands import prepare_annotated, prepare_own

    out = storage.place(arguments.out)
    job = functools.partial(_job, arguments, "folder")
    limit = arguments.max_unpacked
    if arguments.annotations is not None:
        if arguments.byproducts is not None:
            raise UserError(
                "--annotations and --byproducts: give one of them; clicks of images in a table are not read"
            )
        columns = Columns(
            file_name=arguments.file_name, label=arguments.label, groups=arguments.groups, where=tuple(arguments.where)
        )
        table = arguments.annotations
        prepare_annotated(arguments.source, table, columns, arguments.classes, job, out=out, max_unpacked=limit)
        return
    if arguments.label or arguments.groups or arguments.where:
        raise UserError("--label, --groups and --where name columns of --annotations=FILE, which is missing")
    prepare_own(arguments.source, arguments.byproducts, arguments.classes, job, out=out, max_unpacked=limit)


def _coco_ab(arguments: argparse.Namespace) -> None:
    from data_prep.commands import prepare_coco
    from luab_jax.data.class_lists import read_class_list
    from luab_jax.data.coco_classes import coco

    classes = coco() if arguments.classes == "coco" else read_class_list(arguments.classes)
    prepare_coco(
        arguments.images,
        _file(arguments.instances, "--instances"),
        _file(arguments.byproducts, "--byproducts") if arguments.byproducts else None,
        _job(arguments, "coco_ab", classes),
        min_match=arguments.min_match,
    )


def _inspect(arguments: argparse.Namespace) -> None:
    from data_prep.inspect.directory import Gallery, inspect

    gallery = None
    if arguments.html is not None:
        gallery = Gallery(
            path=storage.place(arguments.html),
            num_images=arguments.num_images,
            seed=arguments.seed,
            show_workers=arguments.show_workers,
        )
    print(
        inspect(
            storage.place(arguments.directory),
            workers=arguments.workers,
            split=arguments.split,
            gallery=gallery,
            beam_options=arguments.beam_options,
        )
    )
    if gallery is not None:
        facts = storage.facts(gallery.path)
        assert facts is not None
        print(f"\n{gallery.path}: a page that any browser opens, {facts.size / 1e6:.1f} MB")


def _check_paths(arguments: argparse.Namespace) -> None:
    """Refuses an empty path, a bucket that cannot be reached, and an --out that is a file, before any work."""
    for name in (*_PATHS, "frost", "html"):
        if getattr(arguments, name, None) == "":
            raise UserError(f"{'the directory' if name == 'directory' else f'--{name}='} is empty; expected a path")
    if storage.is_remote(getattr(arguments, "frost", None) or ""):
        raise UserError(f"--frost={arguments.frost}: the photos of frost are read from a local folder; copy them there")
    for name in _PATHS:
        value = getattr(arguments, name, None)
        if value is not None and storage.is_remote(value):
            try:
                if name == "out":
                    storage.check_writable(value)
                storage.facts(storage.place(value))
            except StorageError as e:
                raise StorageError(str(e) if name == "directory" else f"--{name}={e}") from e
    out = storage.place(getattr(arguments, "out", "."))
    if storage.is_remote(out):
        if arguments.command == "demo":
            raise UserError(f"--out={out}: the demo is drawn on a local disk")
        return
    is_folder = getattr(arguments, "collect_command", "") != "backup"  # which writes a file
    for path in (out, *out.parents) if is_folder else out.parents:
        if path.is_file():
            raise DataError(f"--out={out}: {path} is a file, expected a folder")


def _lease(arguments: argparse.Namespace) -> contextlib.AbstractContextManager[object]:
    """Of the prepared directory that a command writes; those that only read need none."""
    if not hasattr(arguments, "out") or arguments.command == "collect":  # whose exports appear as a whole
        return contextlib.nullcontext()
    out = storage.place(arguments.out)
    directory = out / arguments.name if arguments.command == "suite" else out
    if arguments.command in own_suites.FOLDERS:
        directory = own_suites.folder_of(arguments)
    return Lease(directory, remedy="choose another --out")


def _file(path: str, flag: str) -> storage.Place:
    """A file given by a flag; raises `DataError` that says what is there instead."""
    file = storage.place(path)
    facts = storage.facts(file)
    if facts is None or facts.is_folder:
        raise DataError(f"{flag}={path}: {'no such file' if facts is None else 'a folder, expected a file'}")
    return file


def main(argv: list[str] | None = None) -> int:
    """Runs a command, and turns its end into an exit code."""
    arguments = read_arguments(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):  # no name that a terminal cannot show may cost a summary
        sys.stdout.reconfigure(errors="backslashreplace")
    # A scheduler's SIGTERM ends as softly as Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    retries.forget()  # of a command that this process ran before
    try:
        with retries.told(), options_are_flags():
            _check_paths(arguments)
            with _lease(arguments):
                return run(arguments)
    except UserError as e:
        print(f"error: {e}", file=sys.stderr)
        return ExitCode.FAILED
    except KeyboardInterrupt:
        if arguments.command in ("inspect", "verify"):
            print("stopped; nothing was changed", file=sys.stderr)
        elif arguments.command == "collect":
            print("stopped; run the same command again", file=sys.stderr)
        else:
            print("stopped; finished shards are kept, and the same command goes on from there", file=sys.stderr)
        return ExitCode.STOPPED_RESUMABLE


def _in_utf8() -> None:
    """Starts again in Python's UTF-8 mode where the locale has another encoding: names of files would be garbled."""
    if sys.getfilesystemencoding().lower() != "utf-8" and not sys.flags.utf8_mode:
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


if __name__ == "__main__":
    _in_utf8()
    with quiet_when_unread():
        sys.exit(main())
